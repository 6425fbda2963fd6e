# The image for machines without a GPU: gateway, echo engine and vLLM on CPUs. Also the head of a RayService.
# What it promises to those who run it (uid, folders, ports): README.md beside this file.

# Debian's python3 serves as well as the official image's, so a base of your own may take its place.
ARG BASE=docker.io/library/python:3.12.14-slim-bookworm@sha256:782412e85d0f0984994c290652577d4018aff08145c85b262bb63dc0c7522254

# checkov:skip=CKV_DOCKER_7: the base is an argument, whose default has a digest
FROM ${BASE} AS packages
ARG TORCH=torch==2.13.0+cpu
# Tried after the indexes of pip's configuration, as the Makefile does: the +cpu builds are not on the general index.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
# pip has a virtual environment of its own, so that the one which is shipped has none.
RUN python3 -m venv /build && python3 -m venv --without-pip /opt/clinserve
ENV PIP="/build/bin/pip --python /opt/clinserve/bin/python --disable-pip-version-check --no-cache-dir -q install --no-deps"
# The secret `pip` is a pip.conf: an index, certificates and credentials of yours, of which no layer keeps anything.
RUN --mount=type=secret,id=pip,target=/etc/pip.conf \
    $PIP "$TORCH" || $PIP --index-url "$TORCH_INDEX" "$TORCH"
COPY requirements/serve.txt /build/
RUN --mount=type=secret,id=pip,target=/etc/pip.conf \
    $PIP --require-hashes --only-binary :all: -r /build/serve.txt
# Last, since it changes most often.
COPY pyproject.toml README.md LICENSE /build/clinserve/
COPY serving /build/clinserve/serving
RUN $PIP --no-build-isolation /build/clinserve

FROM ${BASE}
# bash and wget: KubeRay's probes of head and workers. libnuma1: vLLM on CPUs. tini: reaps what Ray leaves behind.
# Without versions: Debian keeps one of each, so a pinned version breaks the build at the next security update.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends bash ca-certificates libnuma1 tini wget \
    && rm -rf /var/lib/apt/lists/* /var/cache/* /var/log/* \
    && find / -xdev -type f -perm /6000 -exec chmod ug-s {} + \
    && groupadd --gid 10001 clinserve \
    && useradd --uid 10001 --gid 10001 --create-home --shell /usr/sbin/nologin clinserve \
    && install -d -o 10001 -g 10001 -m 0700 /var/lib/clinserve
COPY --from=packages /opt/clinserve /opt/clinserve
COPY deploy/demo_model/clinical-demo /usr/share/clinserve/demo_model/clinical-demo
COPY deploy/catalog /usr/share/clinserve/catalog
COPY deploy/configs/demo.yaml deploy/configs/echo.yaml /usr/share/clinserve/configs/
ENV PATH=/opt/clinserve/bin:$PATH \
    HOME=/home/clinserve \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    CLINSERVE_CATALOG=/usr/share/clinserve/catalog \
    CLINSERVE_CONFIG=/etc/clinserve/clinserve.yaml \
    CLINSERVE_SERVER__HOST=0.0.0.0 \
    CLINSERVE_SERVER__STATE_DIR=/var/lib/clinserve
# For Ray processes that `clinserve serve` does not start: its HAProxy command, at a fixed place.
RUN python3 -c "from pathlib import Path; from serving.deployments.environment import haproxy_command as command; \
    command(Path('/usr/libexec/clinserve')).chmod(0o755)"
RUN --mount=type=bind,source=deploy/images/sbom.py,target=/tmp/sbom.py \
    python3 /tmp/sbom.py > /usr/share/clinserve/sbom.cdx.json

USER 10001:10001
WORKDIR /var/lib/clinserve
EXPOSE 8000
# Docker and compose look at it, Kubernetes has probes of its own.
HEALTHCHECK --interval=10s --timeout=5s --start-period=300s \
    CMD ["wget", "-q", "-O", "/dev/null", "http://127.0.0.1:8000/readyz"]
ENTRYPOINT ["tini", "--", "clinserve"]
CMD ["serve"]

ARG BASE
ARG VERSION=0.0.0
ARG REVISION=unknown
ARG CREATED=1970-01-01T00:00:00Z
LABEL org.opencontainers.image.title="clinserve (CPU)" \
      org.opencontainers.image.description="Azure-style model service for clinical foundation models" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION" \
      org.opencontainers.image.created="$CREATED" \
      org.opencontainers.image.base.name="$BASE"
