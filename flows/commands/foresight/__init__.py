"""What ``heptune plan`` reads in place of a stage's work: the base's headers, the data's sizes, a machine's facts."""
