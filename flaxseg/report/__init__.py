"""What a run shows: TensorBoard, drawings."""
