# The image for NVIDIA GPUs: Ray's own image of Ray, CUDA and vLLM, and the product on top. Not built on it by us yet:
# README.md beside this file says what was tried instead, and why each line.

# Such as docker.io/rayproject/ray-llm:2.60.0-py312-cu130@sha256:... No default: which CUDA fits is your drivers' matter.
ARG BASE
# checkov:skip=CKV_DOCKER_7: the base is an argument without a default, which README.md wants by digest
FROM ${BASE}

# Ray's image ends as its user `ray`, who may become root by sudo.
USER 0
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends tini wget \
    && rm -rf /var/lib/apt/lists/* /var/cache/* /var/log/* \
    && find / -xdev -type f -perm /6000 -exec chmod ug-s {} + \
    && chmod a+rx /home/ray \
    && groupadd --gid 10001 clinserve \
    && useradd --uid 10001 --gid 10001 --create-home --shell /usr/sbin/nologin clinserve \
    && install -d -o 10001 -g 10001 -m 0700 /var/lib/clinserve
COPY requirements/serve.txt /tmp/build/
# pip check: complaints that the base has of itself are its own, one that this adds ends the build.
RUN --mount=type=bind,source=deploy/images/missing.py,target=/tmp/missing.py \
    --mount=type=secret,id=pip,target=/etc/pip.conf \
    python /tmp/missing.py /tmp/build/serve.txt > /tmp/build/missing.txt \
    && { pip check > /tmp/build/before || true; } \
    && pip install --no-cache-dir --no-deps --require-hashes --only-binary :all: -r /tmp/build/missing.txt \
    && { pip check > /tmp/build/after || true; } \
    && ! grep -vxFf /tmp/build/before /tmp/build/after \
    && rm -r /tmp/build
COPY pyproject.toml README.md LICENSE /tmp/build/
COPY serving /tmp/build/serving
RUN pip install --no-cache-dir --no-deps --no-build-isolation /tmp/build && rm -r /tmp/build
COPY deploy/catalog /usr/share/clinserve/catalog
COPY deploy/configs/medgemma-27b.yaml /usr/share/clinserve/configs/
ENV HOME=/home/clinserve \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    CLINSERVE_CATALOG=/usr/share/clinserve/catalog \
    CLINSERVE_CONFIG=/etc/clinserve/clinserve.yaml \
    CLINSERVE_SERVER__HOST=0.0.0.0 \
    CLINSERVE_SERVER__STATE_DIR=/var/lib/clinserve
RUN python -c "from pathlib import Path; from serving.deployments.environment import haproxy_command as command; \
    command(Path('/usr/libexec/clinserve')).chmod(0o755)"
RUN --mount=type=bind,source=deploy/images/sbom.py,target=/tmp/sbom.py \
    python /tmp/sbom.py > /usr/share/clinserve/sbom.cdx.json

USER 10001:10001
WORKDIR /var/lib/clinserve
# The versions that the base brings instead of ours are put to the test here rather than in production.
RUN clinserve config reference > /dev/null && python -c "import serving.app"
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=900s \
    CMD ["wget", "-q", "-O", "/dev/null", "http://127.0.0.1:8000/readyz"]
ENTRYPOINT ["tini", "--", "clinserve"]
CMD ["serve"]

ARG BASE
ARG VERSION=0.0.0
ARG REVISION=unknown
ARG CREATED=1970-01-01T00:00:00Z
LABEL org.opencontainers.image.title="clinserve (GPU)" \
      org.opencontainers.image.description="Azure-style model service for clinical foundation models" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION" \
      org.opencontainers.image.created="$CREATED" \
      org.opencontainers.image.base.name="$BASE"
