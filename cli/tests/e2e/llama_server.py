"""A llama.cpp server on a free port: MODEL KEY. Prints its address; ends when its input does."""

import sys

import xllamacpp

parameters = xllamacpp.CommonParams()
parameters.model.path, key = sys.argv[1:]
parameters.api_keys = [key]
parameters.model_alias = {"small"}
# Two requests at a time, 4,096 tokens each.
parameters.n_ctx, parameters.n_parallel = 8192, 2
server = xllamacpp.Server(parameters)
print(server.listening_address, flush=True)
sys.stdin.read()
