"""What every command shares: how it starts, its help, its flags."""
