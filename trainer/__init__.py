"""The trainer: three-phase GRPO on OpenRLHF over Ray, and evaluation on the paper's five benchmarks."""
