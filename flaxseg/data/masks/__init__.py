"""From the values or colors of a mask to class indices."""
