"""The paper's scheme of quantization, section 3.3, and its simulation."""
