"""From the captured topics to Redis and to the channels: two Faust apps on one delivery."""
