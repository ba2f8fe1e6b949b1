"""The networks of the benchmark `convnets`, written in each library as its users write them."""
