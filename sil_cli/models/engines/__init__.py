"""What computes a model: PyTorch, or an export of it by ONNX Runtime or OpenVINO; and how exports are made."""
