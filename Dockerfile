# The same image as deploy/image.sh makes without Docker: docker build --tag localhost/flannel-ts:0.1.0 .
FROM debian:bookworm-slim AS build
RUN apt-get update && apt-get install --yes --no-install-recommends npm g++ gcc libc6-dev linux-libc-dev make musl-tools python3 binutils
COPY . /src
RUN cd /src && deploy/rootfs.sh /image

FROM scratch
COPY --from=build /image/base /
COPY --from=build /image/agent /
ENV PATH=/usr/sbin:/usr/bin:/sbin:/bin
ENTRYPOINT ["/usr/bin/flanneld"]
LABEL org.opencontainers.image.title=flannel-ts org.opencontainers.image.licenses=Apache-2.0
