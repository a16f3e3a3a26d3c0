"""Pretrained weights: downloads and reads safetensors, npz and PyTorch files, and loads them into networks."""
