# The image of the showcase's workers, and the one of Flower, which watches them.
FROM python:3.13-slim AS worker
WORKDIR /app
COPY pyproject.toml constraints.txt README.md ./
COPY waybill waybill
RUN pip install --no-cache-dir -c constraints.txt '.[showcase]'
COPY exchanges exchanges
COPY worker worker
RUN useradd --create-home celery
USER celery

FROM worker AS flower
USER root
RUN pip install --no-cache-dir -c constraints.txt '.[watching]'
USER celery
