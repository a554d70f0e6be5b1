FROM python:3.13-slim-bookworm AS build

WORKDIR /src
# What is needed to install, and nothing that changes more often than the code.
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY client client
COPY server server
RUN python3 -m venv /opt/creditgate && /opt/creditgate/bin/pip install -q --no-compile -c constraints.txt '.[server]'
# Compiled here, because the user it runs as may not write there; and pip has done its work.
RUN /opt/creditgate/bin/pip uninstall -q -y pip && python3 -m compileall -q /opt/creditgate/lib

FROM python:3.13-slim-bookworm

LABEL org.opencontainers.image.title="creditgate" \
      org.opencontainers.image.description="Authorizes credits before a generation job and settles them after it" \
      org.opencontainers.image.licenses="MIT"

RUN groupadd --gid 7420 creditgate && useradd --uid 7420 --gid 7420 --no-create-home --home-dir /data --shell /usr/sbin/nologin creditgate && install -d -m 0700 -o 7420 -g 7420 /data
# The embedded store takes it where it is: a large one is twice as fast with it.
RUN apt-get update -qq && apt-get install -qq -y --no-install-recommends libjemalloc2 && rm -rf /var/lib/apt/lists/*
COPY --from=build /opt/creditgate /opt/creditgate

ENV PATH=/opt/creditgate/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    CREDITGATE_DATA=/data
# By number, so that an orchestrator can see that it is not root.
USER 7420:7420
WORKDIR /data
VOLUME /data
EXPOSE 7420
STOPSIGNAL SIGTERM
ENTRYPOINT ["creditgate"]
CMD ["serve"]
