# An image that trains and uses networks, as a user without privileges.
#
#   docker build -t flaxseg .
#   docker build -t flaxseg:cuda --build-arg EXTRAS=tensorflow,cuda13 .
#   docker run --rm -v "$PWD:/work" flaxseg train --config=shapes --workdir=/work/runs/shapes
#   docker run --rm --gpus=all -v "$PWD:/work" flaxseg:cuda doctor
FROM python:3.12-slim

ARG EXTRAS=tensorflow
ARG USER_ID=1000

RUN useradd --create-home --uid "$USER_ID" flaxseg \
    && mkdir /work && chown flaxseg /work

# The dependencies first, so that a change of the code does not install them again.
WORKDIR /source
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY flaxseg/__init__.py flaxseg/
COPY configs configs
RUN pip install --no-cache-dir --constraint constraints.txt ".[$EXTRAS]"
COPY flaxseg flaxseg
RUN pip install --no-cache-dir --no-deps --force-reinstall . && rm -rf /source

USER flaxseg
WORKDIR /work
ENTRYPOINT ["flaxseg"]
CMD ["--help"]
