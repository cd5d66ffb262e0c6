"""Models that are not opened here but asked where they are served."""
