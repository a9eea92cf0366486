# Targets for the images; the Makefile includes this file. Every variable can be set on the command line or in the
# environment; images/build.py documents what each does to a build.
DOCKER ?= docker
TAG_PREFIX ?= holdfast/
TAG ?= latest
BASE_IMAGE ?=
CA_BUNDLE ?= /etc/ssl/certs/ca-certificates.crt
BUILD_NETWORK ?= host
UV ?= uv
# What `make base-image` calls its result, and where the packages come from (apt's own sources if empty).
LOCAL_BASE ?= holdfast-base:bookworm
DEBIAN_MIRROR ?=
# What the official slim images leave out too: 52 MB. The licences stay.
as_slim = --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-include=/usr/share/doc/*/copyright' \
	--dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*'

images_environment = DOCKER="$(DOCKER)" TAG_PREFIX="$(TAG_PREFIX)" TAG="$(TAG)" BASE_IMAGE="$(BASE_IMAGE)" \
	CA_BUNDLE="$(CA_BUNDLE)" BUILD_NETWORK="$(BUILD_NETWORK)"

.PHONY: images images-gpu base-image demo-container lock FORCE

image/%: FORCE ## build one image, say image/pytorch-cpu (images/matrix.toml has the names)
	$(images_environment) $(PYTHON) -m images.build $*

images: ## build the images for CPUs
	for name in $$($(PYTHON) -m images.build --list-cpu); do $(MAKE) image/$$name || exit 1; done

images-gpu: ## build the images for GPUs (no GPU needed; 30 GB of disk)
	for name in $$($(PYTHON) -m images.build --list-gpu); do $(MAKE) image/$$name || exit 1; done

test-image/%: image/% $(VENV)/.dev ## build one image and run the image tests on it
	HOLDFAST_REQUIRE_DOCKER=1 HOLDFAST_TEST_IMAGE="$(TAG_PREFIX)$*:$(TAG)" $(BIN)/python -m pytest tests/images $(ARGS)

push/%: FORCE ## push one image that is built (TAG_PREFIX names the registry)
	$(DOCKER) push "$(TAG_PREFIX)$*:$(TAG)"

base-image: ## where no registry is in reach: make BASE_IMAGE=holdfast-base:bookworm from Debian packages (root, mmdebstrap)
	mkdir -p dist
	mmdebstrap --quiet --variant=minbase --include=ca-certificates,python3,python3-venv,usr-is-merged \
		--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr $(as_slim) bookworm dist/base.tar $(DEBIAN_MIRROR)
	$(DOCKER) import --change 'CMD ["/bin/bash"]' dist/base.tar $(LOCAL_BASE)
	rm dist/base.tar

demo-container: image/pytorch-cpu $(VENV)/.dev ## the demo with containers: two interruptions, two resumes
	HOLDFAST_DEMO_IMAGE="$(TAG_PREFIX)pytorch-cpu:$(TAG)" $(BIN)/python -m examples.demo.container

lock: ## write all lock files anew (LOCK_FLAGS=--upgrade takes the newest versions)
	UV="$(UV)" $(PYTHON) -m images.lock $(LOCK_FLAGS)

FORCE:
