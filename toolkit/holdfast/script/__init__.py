"""What a training script asks holdfast: needs nothing but the standard library."""
