"""What can go wrong while training."""


class TrainingError(RuntimeError):
    """The loss or the gradients' norm is no longer a finite number; the message says where, and what usually helps."""
