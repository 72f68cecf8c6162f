"""Running an artifact: backends, latents, the batch sampler and the sinks. Imports torch only for its backend."""
