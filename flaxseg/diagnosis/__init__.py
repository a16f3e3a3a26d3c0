"""What `flaxseg.doctor` examines: the installation, the devices, the storage, and the directory of a run."""
