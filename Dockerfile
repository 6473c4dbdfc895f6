# syntax=docker/dockerfile:1

FROM golang:1.26-bookworm AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG VERSION=0.0.0-dev
RUN CGO_ENABLED=0 GOFLAGS=-buildvcs=false go build -trimpath \
        -ldflags "-s -w -X main.buildVersion=${VERSION}" -o /out/bin/doubledutch ./cmd/doubledutch \
    && mkdir -m 0700 /out/data \
    && mkdir -p /out/licenses && cp LICENSE /out/licenses/

FROM scratch
COPY --from=build /out/bin/doubledutch /bin/doubledutch
COPY --from=build /out/licenses /licenses
# A number, so that an orchestrator that insists on a non-root user can see that it is one.
COPY --from=build --chown=65532:65532 /out/data /data
USER 65532:65532

# Inside its container the server listens on all addresses and in the clear; who can reach it is decided by how its port
# is published. Set DOUBLEDUTCH_API_KEY, and DOUBLEDUTCH_TLS_CERT and DOUBLEDUTCH_TLS_KEY, where that is not enough.
# Published through Docker's proxy, all clients can seem to come from one address, so one address may have them all.
# Port 80 needs no privilege: Docker (20.10 and later) sets net.ipv4.ip_unprivileged_port_start=0 in containers. Elsewhere
# choose a port above 1023 in DOUBLEDUTCH_LISTEN and DOUBLEDUTCH_SERVER.
ENV DOUBLEDUTCH_LISTEN=0.0.0.0:80 \
    DOUBLEDUTCH_INSECURE=true \
    DOUBLEDUTCH_DATA_DIR=/data \
    DOUBLEDUTCH_MAX_CONNECTIONS_PER_IP=20000 \
    DOUBLEDUTCH_SERVER=http://127.0.0.1:80
VOLUME /data
EXPOSE 80
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s --retries=3 CMD ["/bin/doubledutch", "ping", "--timeout=2s"]
ENTRYPOINT ["/bin/doubledutch"]
CMD ["serve"]
