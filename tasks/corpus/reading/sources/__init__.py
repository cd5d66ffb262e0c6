"""Where rows come from. One file per kind of source; the union in ``params.py`` is the registry."""
