# Three images, each with one static binary:
#
#   docker build --target watchdog -t gatehound/fwatchdog .
#   docker build --target gateway -t gatehound/gateway .
#   docker build --target federated-gateway -t gatehound/federated-gateway .
#
# The same sources, Go release, VERSION and REVISION give the same binaries,
# byte for byte. Other platforms are cross-compiled, without emulation.
ARG GO_IMAGE=golang:1.26-bookworm

FROM --platform=$BUILDPLATFORM ${GO_IMAGE} AS source
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .

FROM source AS build-gateway
ARG TARGETOS
ARG TARGETARCH
ARG TARGETVARIANT
ARG VERSION=dev
ARG REVISION=unknown
RUN CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH GOARM=${TARGETVARIANT#v} \
    go build -trimpath -buildvcs=false \
    -ldflags="-s -w -X github.com/gatehound/gatehound/config.release=$VERSION -X github.com/gatehound/gatehound/config.commit=$REVISION" \
    -o /out/gateway ./gateway/cmd/gateway
# A scratch image has none of these: certificates for issuers on https, a
# temporary folder, and the data folder with an owner who may write to it.
RUN mkdir -p /rootfs/etc/ssl/certs /rootfs/tmp /rootfs/var/lib/gatehound \
    && cp /etc/ssl/certs/ca-certificates.crt /rootfs/etc/ssl/certs/ \
    && chmod 1777 /rootfs/tmp \
    && chmod 0700 /rootfs/var/lib/gatehound \
    && chown 65532:65532 /rootfs/var/lib/gatehound

FROM scratch AS gateway
COPY --from=build-gateway /rootfs/ /
COPY --from=build-gateway /out/gateway /gateway
# All state: mount a volume here that the user 65532 may write to.
ENV data_dir=/var/lib/gatehound
USER 65532:65532
EXPOSE 8080 8082
ENTRYPOINT ["/gateway"]

FROM source AS build-federated-gateway
ARG TARGETOS
ARG TARGETARCH
ARG TARGETVARIANT
ARG VERSION=dev
ARG REVISION=unknown
RUN CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH GOARM=${TARGETVARIANT#v} \
    go build -trimpath -buildvcs=false \
    -ldflags="-s -w -X github.com/gatehound/gatehound/config.release=$VERSION -X github.com/gatehound/gatehound/config.commit=$REVISION" \
    -o /out/federated-gateway ./gateway/cmd/federated-gateway
RUN mkdir -p /rootfs/etc/ssl/certs && cp /etc/ssl/certs/ca-certificates.crt /rootfs/etc/ssl/certs/

FROM scratch AS federated-gateway
COPY --from=build-federated-gateway /rootfs/ /
COPY --from=build-federated-gateway /out/federated-gateway /federated-gateway
USER 65532:65532
EXPOSE 8080 8082
ENTRYPOINT ["/federated-gateway"]

FROM source AS build-watchdog
ARG TARGETOS
ARG TARGETARCH
ARG TARGETVARIANT
ARG VERSION=dev
ARG REVISION=unknown
RUN CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH GOARM=${TARGETVARIANT#v} \
    go build -trimpath -buildvcs=false \
    -ldflags="-s -w -X github.com/gatehound/gatehound/config.release=$VERSION -X github.com/gatehound/gatehound/config.commit=$REVISION" \
    -o /out/fwatchdog ./watchdog/cmd/fwatchdog

# As upstream's image, this one is copied from:
# COPY --from=gatehound/fwatchdog /fwatchdog /usr/bin/fwatchdog
FROM scratch AS watchdog
COPY --from=build-watchdog /out/fwatchdog /fwatchdog
ENTRYPOINT ["/fwatchdog"]
