"""What the command flaxseg.inspect_data finds in a data set, suggests and shows: `splits` is where to begin."""
