"""What the command flaxseg.inspect_data finds in a dataset, suggests and shows: `splits` is where to begin."""
