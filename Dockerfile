# The image of the showcase's workers.
FROM python:3.13-slim
WORKDIR /app
COPY pyproject.toml constraints.txt README.md ./
COPY waybill waybill
RUN pip install --no-cache-dir -c constraints.txt '.[showcase]'
COPY exchanges exchanges
COPY worker worker
RUN useradd --create-home celery
USER celery
