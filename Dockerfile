# docker build -t chainrule .
# docker run -p 127.0.0.1:8080:8080 -v chainrule:/data chainrule

# What both build stages start from: the toolchain, and the manifest without benches and tests,
# whose files are not in the image.
FROM rust:1.95-bookworm AS manifest
WORKDIR /build
COPY Cargo.toml Cargo.lock build.rs ./
RUN sed -i '/^\[\[/,/^$/d' Cargo.toml

# The dependencies, built around an empty program, so that only a new Cargo.lock builds them again.
# The empty program's output must go: Cargo would take it for newer than the sources that follow.
FROM manifest AS dependencies
RUN mkdir src \
 && echo 'fn main() {}' > src/main.rs \
 && : > src/lib.rs \
 && cargo build --release --locked \
 && cargo clean --release --package chainrule \
 && rm -r src

FROM dependencies AS build
COPY migrations migrations
COPY data data
COPY src src
RUN cargo build --release --locked

FROM debian:bookworm-slim
LABEL org.opencontainers.image.title="chainrule" \
      org.opencontainers.image.description="A server that trains small image classifiers by backpropagation and serves their predictions" \
      org.opencontainers.image.licenses="MIT OR Apache-2.0"
# A number, so that an orchestrator can tell that it is not root without reading /etc/passwd. The
# folder must be that user's before VOLUME: a named volume starts as a copy of it.
RUN install -d -o 65532 -g 65532 /data
COPY --from=build /build/target/release/chainrule /usr/local/bin/chainrule
ENV CHAINRULE_LISTEN=0.0.0.0:8080 \
    CHAINRULE_DATA_DIR=/data
USER 65532:65532
VOLUME /data
EXPOSE 8080
# Asks 127.0.0.1:8080: who listens elsewhere sets CHAINRULE_SERVER as well.
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s --retries=3 CMD ["chainrule", "health"]
ENTRYPOINT ["chainrule"]
CMD ["serve"]
