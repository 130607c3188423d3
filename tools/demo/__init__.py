"""The whole system at work: replays sales into an empty stack and compares all stores."""
