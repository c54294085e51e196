# Everything that is done with this repository, by one word. `make help` lists the words.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{ printf "make %-13s %s\n", $$1, $$2 }'

run: ## build, then serve on 127.0.0.1:8080 with the data in ./data
	@scripts/run serve

dev: ## the same with demo users alice, bob and carol, and their tokens printed
	@scripts/run dev

cluster: ## a whole cluster on this machine, left running: Redis, a CQL server, three nodes, HAProxy; prints its address
	@scripts/cluster start

cluster-stop: ## end it; its data stays in ./data/cluster
	@scripts/cluster stop

test: ## format, lints, all tests: what every change must pass
	@scripts/test

conformance: ## the Autobahn WebSocket suite against /v1/echo, schemathesis against the HTTP API
	@scripts/conformance

prove: ## break one promise at a time and see its test fail
	@scripts/prove

soak: ## the tests' long forms: more seeds, longer runs
	@HUBBUB_SOAK=1 scripts/test --soak

bench: ## measure, and write the tables of docs/BENCHMARKS.md
	@scripts/bench

fmt: ## format the sources
	@cargo fmt

lint: ## clippy as `make test` runs it
	@scripts/test --lint

clean: ## remove what was built; ./data stays
	@cargo clean

.PHONY: help run dev cluster cluster-stop test conformance prove soak bench fmt lint clean
