# syntax=docker/dockerfile:1

FROM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN --mount=type=cache,target=/go/pkg/mod go mod download
COPY . .
ARG VERSION=
ENV GOCACHE=/go/cache
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/go/cache \
	CGO_ENABLED=0 go build -trimpath -ldflags "-s -w${VERSION:+ -X main.version=${VERSION}}" -o /out/tasker ./cmd/tasker

FROM gcr.io/distroless/static-debian12:nonroot
COPY --from=build /out/tasker /tasker
# Inside a container loopback is nobody's; which port is reachable from where, the container's host decides.
ENV TASKER_LISTEN=0.0.0.0:8484
EXPOSE 8484
ENTRYPOINT ["/tasker"]
CMD ["serve"]
