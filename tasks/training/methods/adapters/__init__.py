"""Methods of PEFT's that put modules beside layers of a frozen base, one file each; `adapter` has what they share."""
