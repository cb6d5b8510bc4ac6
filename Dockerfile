# docker build -t chainrule .
# docker run -p 127.0.0.1:8080:8080 -v chainrule:/data chainrule

# Builds the dependencies with an empty program, so that a change of the code doesn't rebuild them.
# Benches and tests are removed from the manifests, since their files are not copied. The output of
# the empty program is removed as well: Cargo would consider it newer than the sources copied later.
FROM rust:1.95-bookworm AS dependencies
WORKDIR /build
COPY Cargo.toml Cargo.lock ./
COPY crates/engine/Cargo.toml crates/engine/
RUN sed -i '/^\[\[/,/^$/d' Cargo.toml crates/engine/Cargo.toml \
 && mkdir src crates/engine/src \
 && echo 'fn main() {}' > src/main.rs \
 && : > src/lib.rs \
 && : > crates/engine/src/lib.rs \
 && cargo build --release --locked \
 && cargo clean --release --package chainrule --package chainrule-engine \
 && rm -r src crates/engine/src

FROM dependencies AS build
COPY migrations migrations
COPY data data
COPY crates/engine/data crates/engine/data
COPY crates/engine/src crates/engine/src
COPY src src
RUN cargo build --release --locked

FROM debian:bookworm-slim
LABEL org.opencontainers.image.title="chainrule" \
      org.opencontainers.image.description="A server that trains small image classifiers by backpropagation and serves their predictions" \
      org.opencontainers.image.licenses="MIT OR Apache-2.0"
# The folder needs its owner before VOLUME: a new named volume starts as a copy of it.
RUN install -d -o 65532 -g 65532 /data
COPY --from=build /build/target/release/chainrule /usr/local/bin/chainrule
# The allocator returns freed memory to the system after this many milliseconds.
ENV CHAINRULE_LISTEN=0.0.0.0:8080 \
    CHAINRULE_DATA_DIR=/data \
    MIMALLOC_PURGE_DELAY=10
# A numeric id, so that an orchestrator can verify that it is not root without /etc/passwd.
USER 65532:65532
VOLUME /data
EXPOSE 8080
# Asks 127.0.0.1:8080. With another CHAINRULE_LISTEN, set CHAINRULE_SERVER as well.
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s --retries=3 CMD ["chainrule", "health", "--live"]
ENTRYPOINT ["chainrule"]
CMD ["serve"]
