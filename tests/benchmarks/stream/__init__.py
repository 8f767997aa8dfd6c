"""What the stream processor costs: material, measures and the page of `bench_stream.py`."""
