"""Training commands: train, distill, finetune."""
