"""What is copied into every exported package as it is: these modules import PyTorch only."""
