"""What follows training: a checkpoint is asked, served and shared (two runs are compared in `trainer/report`)."""
