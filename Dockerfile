# syntax=docker/dockerfile:1
# The gateway, its provisioning and the simulated devices in one image. It holds no secret and does not run as root.

FROM python:3.13-slim-bookworm AS build
WORKDIR /src
COPY requirements/image.txt requirements/
RUN pip wheel --no-cache-dir --no-deps --require-hashes --wheel-dir /wheels -r requirements/image.txt \
    && pip install --no-cache-dir --no-index --find-links=/wheels hatchling
COPY pyproject.toml README.md LICENSE ./
COPY gateway gateway
COPY devices devices
RUN pip wheel --no-cache-dir --no-deps --no-build-isolation --wheel-dir /wheels .

FROM python:3.13-slim-bookworm
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
RUN --mount=type=bind,from=build,source=/wheels,target=/wheels \
    pip install --no-cache-dir --no-index --find-links=/wheels "testbed-gateway[console,provision,devices]" \
    && useradd --uid 10001 --user-group --create-home gateway \
    && install --directory --owner=gateway --group=gateway --mode=0700 /state /secrets \
    && install --directory /config/startups
USER 10001:10001
WORKDIR /home/gateway
EXPOSE 8080
ENTRYPOINT ["gateway"]
CMD ["run", "--config", "/config"]
