"""Files of pictures and masks become arrays: `images` is where to begin, the rest is a file for each format."""
