"""Formats of an exported model, one file each.

An export is a section of params with a ``name`` and ``write(model, tokenizer, folder)``, which leaves a
folder that the gateway can serve.
"""
