/**
 * Writes docs/errors.md and docs/metrics.md from the tables that the programs use. With `--check` it
 * writes nothing and fails if a page is not what it would write.
 */
import { readFile, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { agentMetrics } from '../agent/metrics.ts';
import { gatewayMetrics } from '../gateway/metrics.ts';
import { FAULTS } from '../runtime/fault.ts';
import { MetricsRegistry } from '../runtime/metrics.ts';
import { serverMetrics } from '../server/metrics.ts';

const HERE = dirname(fileURLToPath(import.meta.url));
const NOTE = '<!-- Made by docs/generate.ts; do not edit. -->';

function errorsPage(): string {
  const rows = Object.entries(FAULTS).map(
    ([code, { grpc, exit, says }]) => `| \`${code}\` | ${says} | ${grpc} | ${exit} |`,
  );
  return `${NOTE}
# Errors

Every failure that leaves a process has one of these codes: in logs as \`code\`, over gRPC as a status
and in the trailer \`writ-fault-code\`, from the command line as the exit status. Codes are never reused.

| code | what it means | gRPC status | exit status |
|---|---|---|---|
${rows.join('\n')}
`;
}

function metricsPage(): string {
  const sections = [
    ['Server', metricsTable((registry) => serverMetrics(registry))],
    ['Agent', metricsTable((registry) => agentMetrics(registry))],
    ['Gateway', metricsTable((registry) => gatewayMetrics(registry))],
  ].map(([title, table]) => `## ${title}\n\n${table}`);
  return `${NOTE}
# Metrics

Each process serves Prometheus text at \`/metrics\` of its health port. Labels come from closed sets;
no label is a SPIFFE ID.

${sections.join('\n\n')}
`;
}

function metricsTable(declare: (registry: MetricsRegistry) => unknown): string {
  const registry = new MetricsRegistry();
  declare(registry);
  const rows = registry
    .describe()
    .map(({ name, type, help }) => `| \`${name}\` | ${type} | ${help} |`);
  return `| metric | type | what it counts |\n|---|---|---|\n${rows.join('\n')}`;
}

const pages = { 'errors.md': errorsPage(), 'metrics.md': metricsPage() };
for (const [name, text] of Object.entries(pages)) {
  const file = join(HERE, name);
  if (!process.argv.includes('--check')) {
    await writeFile(file, text);
  } else if ((await readFile(file, 'utf8').catch(() => '')) !== text) {
    process.stderr.write(`docs/${name} is stale: run node --import=tsx docs/generate.ts\n`);
    process.exitCode = 1;
  }
}
