# Targets for the images, included by the Makefile. Every variable can be set on the command line or in the environment;
# images/build.py explains those of a build.
DOCKER ?= docker
TAG_PREFIX ?= holdfast/
TAG ?= latest
BASE_IMAGE ?=
CA_BUNDLE ?= /etc/ssl/certs/ca-certificates.crt
BUILD_NETWORK ?= host
UV ?= uv
# Registry of `make push/NAME`, and the tag that never moves.
REGISTRY ?=
VERSION ?= $(shell git describe --tags --always --dirty)
# Tag of the result of `make base-image`, and source of its packages (empty: apt's own sources).
LOCAL_BASE ?= holdfast-base:bookworm
DEBIAN_MIRROR ?=
# The official slim images leave out the same 52 MB. The licences stay.
as_slim = --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-include=/usr/share/doc/*/copyright' \
	--dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*'

images_environment = DOCKER="$(DOCKER)" TAG_PREFIX="$(TAG_PREFIX)" TAG="$(TAG)" BASE_IMAGE="$(BASE_IMAGE)" \
	CA_BUNDLE="$(CA_BUNDLE)" BUILD_NETWORK="$(BUILD_NETWORK)"

.PHONY: images registry-login base-image demo-container lock FORCE

image/%: FORCE ## build one image, say image/pytorch-cpu (images/matrix.toml has the names)
	$(images_environment) $(PYTHON) -m images.build $*

images: ## build the images for CPUs
	for name in $$($(PYTHON) -m images.build --list-cpu); do $(MAKE) image/$$name || exit 1; done

.PHONY: images-gpu
images-gpu: ## build the images for GPUs (no GPU needed; 30 GB of disk)
	for name in $$($(PYTHON) -m images.build --list-gpu); do $(MAKE) image/$$name || exit 1; done

test-image/%: image/% $(VENV)/.dev ## build one image and run the image tests on it
	HOLDFAST_REQUIRE_DOCKER=1 HOLDFAST_TEST_IMAGE="$(TAG_PREFIX)$*:$(TAG)" $(BIN)/python -m pytest tests/images $(ARGS)

push/%: FORCE ## push one image that is built to REGISTRY: as VERSION, which never moves, then as TAG, which does
	@test -n "$(REGISTRY)" || { echo "set REGISTRY, say 123456789012.dkr.ecr.eu-west-1.amazonaws.com" >&2; exit 64; }
	for tag in "$(VERSION)" "$(TAG)"; do \
		$(DOCKER) tag "$(TAG_PREFIX)$*:$(TAG)" "$(REGISTRY)/holdfast/$*:$$tag" && \
		$(DOCKER) push "$(REGISTRY)/holdfast/$*:$$tag" || exit 1; \
	done

registry-login: ## let Docker push to REGISTRY, an ECR of the account that the AWS CLI is logged in to
	aws ecr get-login-password --region "$(word 4,$(subst ., ,$(REGISTRY)))" \
		| $(DOCKER) login --username AWS --password-stdin "$(REGISTRY)"

base-image: ## without a registry: make BASE_IMAGE=holdfast-base:bookworm from Debian packages (root, mmdebstrap)
	mkdir -p dist
	mmdebstrap --quiet --variant=minbase --include=ca-certificates,python3,python3-venv,usr-is-merged \
		--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr $(as_slim) bookworm dist/base.tar $(DEBIAN_MIRROR)
	$(DOCKER) import --change 'CMD ["/bin/bash"]' dist/base.tar $(LOCAL_BASE)
	rm dist/base.tar

demo-container: image/pytorch-cpu $(VENV)/.dev ## the demo with containers: two interruptions, two resumes
	HOLDFAST_DEMO_IMAGE="$(TAG_PREFIX)pytorch-cpu:$(TAG)" $(BIN)/python -m examples.demo.container

lock: ## write all lock files, and the table of images (LOCK_FLAGS=--upgrade takes the newest versions)
	UV="$(UV)" $(PYTHON) -m images.lock $(LOCK_FLAGS)
	$(PYTHON) -m images.table

lock/%: FORCE ## write the lock file of one image, and the table of images
	UV="$(UV)" $(PYTHON) -m images.lock $* $(LOCK_FLAGS)
	$(PYTHON) -m images.table

reproduce/%: $(VENV)/.dev FORCE ## build one image twice without a cache, and compare every file of both
	$(images_environment) $(BIN)/python -m images.contents $*

start/%: $(VENV)/.dev FORCE ## measure how long a container of one built image takes to the first line of a script
	$(BIN)/python -m benchmarks.start --image "$(TAG_PREFIX)$*:$(TAG)"

sbom/%: $(VENV)/.dev FORCE ## write dist/NAME.cdx.json: the packages of one built image, in CycloneDX
	$(images_environment) $(BIN)/python -m images.sbom $* dist/$*.cdx.json

# Strict: a package that the database does not know is a failure, and so is a database that cannot be reached. The part of
# a version after "+" names a build of the same source, and no database has it.
audit/%: $(VENV)/.dev FORCE ## look up the packages of one image in a database of vulnerabilities (AUDIT_FLAGS for pip-audit)
	mkdir -p dist
	for lock in $* supervisor; do \
		sed -n 's/^\([a-z0-9._-]*==[^ +]*\).*/\1/p' images/$$lock.txt > dist/$$lock.pins \
		&& $(BIN)/pip-audit --strict --disable-pip --no-deps --requirement dist/$$lock.pins $(AUDIT_FLAGS) \
		|| { echo "audit/$*: not clean, or not looked up (the message above says which)" >&2; exit 1; }; \
	done

FORCE:
