# Targets for the images; the Makefile includes this file. Every variable can be set on the command line or in the
# environment; images/build.py documents what each does to a build.
DOCKER ?= docker
TAG_PREFIX ?= holdfast/
TAG ?= latest
BASE_IMAGE ?=
CA_BUNDLE ?= /etc/ssl/certs/ca-certificates.crt
BUILD_NETWORK ?= host
PYTHON ?= python3
UV ?= uv
VENV ?= .venv

images_environment = DOCKER="$(DOCKER)" TAG_PREFIX="$(TAG_PREFIX)" TAG="$(TAG)" BASE_IMAGE="$(BASE_IMAGE)" \
	CA_BUNDLE="$(CA_BUNDLE)" BUILD_NETWORK="$(BUILD_NETWORK)"

.PHONY: images demo-container lock FORCE

image/%: FORCE  ## build one image, say image/pytorch-cpu
	$(images_environment) $(PYTHON) -m images.build $*

images:  ## build the whole family
	for name in $$($(PYTHON) -m images.build --list); do $(MAKE) image/$$name || exit 1; done

test-image/%: image/% $(DEVELOP)  ## build one image and run the image tests on it
	HOLDFAST_REQUIRE_DOCKER=1 HOLDFAST_TEST_IMAGE="$(TAG_PREFIX)$*:$(TAG)" $(VENV)/bin/python -m pytest tests/images

push/%: FORCE  ## push one image that was built (TAG_PREFIX names the registry)
	$(DOCKER) push "$(TAG_PREFIX)$*:$(TAG)"

demo-container: image/pytorch-cpu $(DEVELOP)  ## the demo with containers: two interruptions, two resumes
	HOLDFAST_DEMO_IMAGE="$(TAG_PREFIX)pytorch-cpu:$(TAG)" $(VENV)/bin/python -m examples.demo.container

lock:  ## write all lock files anew (LOCK_FLAGS=--upgrade for the newest versions)
	UV="$(UV)" $(PYTHON) -m images.lock $(LOCK_FLAGS)

FORCE:
