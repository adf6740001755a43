# nasnet without TensorFlow: all commands but export and training.
#
#   docker build -t nasnet .
#   docker run --rm --network none --user "$(id -u):$(id -g)" -v "$PWD:/work" nasnet classify photos/ -o labels.csv
FROM python:3.12-slim AS build
RUN pip install --no-cache-dir uv
COPY . /source
ENV NASNET_CACHE_DIR=/var/cache/nasnet
RUN /source/docker/install.sh /opt/nasnet

FROM python:3.12-slim
COPY --from=build /opt/nasnet /opt/nasnet
COPY --from=build /var/cache/nasnet /var/cache/nasnet
ENV PATH=/opt/nasnet/bin:$PATH NASNET_CACHE_DIR=/var/cache/nasnet
RUN useradd --create-home nasnet
USER nasnet
WORKDIR /work
ENTRYPOINT ["nasnet"]
CMD ["--help"]
