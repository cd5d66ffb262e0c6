"""Formats of an exported model, one file each; `tasks.deployment.exports.export` says what one has to answer."""
