"""Methods that put trained vectors before the rows of a frozen base, one file each; `prompt` has what they share."""
