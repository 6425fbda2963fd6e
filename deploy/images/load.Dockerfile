# The image for load tests beside a server: Locust and loadtests/, nothing of the product. The chart's Job runs it.

ARG BASE=docker.io/library/python:3.12.14-slim-bookworm@sha256:782412e85d0f0984994c290652577d4018aff08145c85b262bb63dc0c7522254

# checkov:skip=CKV_DOCKER_7: the base is an argument, whose default has a digest
FROM ${BASE} AS packages
RUN python3 -m venv /build && python3 -m venv --without-pip /opt/loadtests
COPY requirements/load.txt /build/
RUN --mount=type=secret,id=pip,target=/etc/pip.conf \
    /build/bin/pip --python /opt/loadtests/bin/python --disable-pip-version-check --no-cache-dir -q install \
    --no-deps --require-hashes --only-binary :all: -r /build/load.txt

FROM ${BASE}
RUN groupadd --gid 10001 clinserve \
    && useradd --uid 10001 --gid 10001 --create-home --shell /usr/sbin/nologin clinserve
COPY --from=packages /opt/loadtests /opt/loadtests
COPY loadtests /opt/loadtests/app/loadtests
ENV PATH=/opt/loadtests/bin:$PATH \
    PYTHONPATH=/opt/loadtests/app \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1

USER 10001:10001
WORKDIR /tmp
# checkov:skip=CKV_DOCKER_2: a Job that ends by itself; its exit status is the verdict
ENTRYPOINT ["python3", "-m", "loadtests"]
CMD ["--help"]

ARG BASE
ARG VERSION=0.0.0
ARG REVISION=unknown
ARG CREATED=1970-01-01T00:00:00Z
LABEL org.opencontainers.image.title="clinserve load tests" \
      org.opencontainers.image.description="Open-loop load tests of an OpenAI-compatible server" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION" \
      org.opencontainers.image.created="$CREATED" \
      org.opencontainers.image.base.name="$BASE"
