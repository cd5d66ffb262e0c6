"""Personal data: finders say where it stands, treatments what stands there afterwards. One file each."""
