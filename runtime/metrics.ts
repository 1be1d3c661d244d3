/**
 * Metrics in Prometheus' text format. Each process declares its own in one file, `metrics.ts`.
 * Source: prometheus.io/docs/instrumenting/exposition_formats, text format 0.0.4.
 */

const NAME = /^writ_[a-z][a-z0-9_]*[a-z0-9]$/;
const LABEL = /^[a-z][a-z0-9_]*$/;

/** Labels come from closed sets; a set that turns out open stops growing here. */
const MAXIMUM_SERIES = 1000;

/** Upper bounds in seconds, from a fast query to the longest session. */
const SECONDS_BUCKETS = [0.001, 0.005, 0.025, 0.1, 0.5, 2, 10, 60, 600, 3600, 28_800] as const;

export type Labels<L extends string> = Readonly<Record<L, string>>;

/** Only grows. */
export interface Counter<L extends string> {
  inc(labels?: Labels<L>, by?: number): void;
}

export interface Gauge<L extends string> {
  set(value: number, labels?: Labels<L>): void;
  inc(labels?: Labels<L>, by?: number): void;
  dec(labels?: Labels<L>, by?: number): void;
}

/** Durations, in seconds. */
export interface Histogram<L extends string> {
  observe(seconds: number, labels?: Labels<L>): void;
}

/** What a page of documentation says of a metric. */
export interface MetricDescription {
  readonly name: string;
  readonly type: 'counter' | 'gauge' | 'histogram';
  readonly help: string;
  readonly labels: readonly string[];
}

/** Values by the name of their metric, then by the sample's own name and labels. */
export type Samples = ReadonlyMap<string, ReadonlyMap<string, number>>;

/** The metrics of one process. */
export class MetricsRegistry {
  readonly #families = new Map<string, Family>();

  counter<L extends string = never>(
    name: string,
    help: string,
    labels: readonly L[] = [],
  ): Counter<L> {
    const values = new NumberFamily({ name, type: 'counter', help, labels });
    this.#add(values);
    return {
      inc: (of, by = 1) => {
        if (!(by >= 0)) throw new RangeError(`${name} would shrink`);
        values.add(of, by);
      },
    };
  }

  gauge<L extends string = never>(name: string, help: string, labels: readonly L[] = []): Gauge<L> {
    const values = new NumberFamily({ name, type: 'gauge', help, labels });
    this.#add(values);
    return {
      set: (value, of) => values.set(of, value),
      inc: (of, by = 1) => values.add(of, by),
      dec: (of, by = 1) => values.add(of, -by),
    };
  }

  histogram<L extends string = never>(
    name: string,
    help: string,
    labels: readonly L[] = [],
  ): Histogram<L> {
    const values = new HistogramFamily({ name, type: 'histogram', help, labels });
    this.#add(values);
    return { observe: (seconds, of) => values.observe(of, seconds) };
  }

  /** All that was declared, in order of name. */
  describe(): MetricDescription[] {
    return this.#sorted().map(({ description }) => description);
  }

  samples(): Samples {
    return new Map(this.#sorted().map((one) => [one.description.name, new Map(one.samples())]));
  }

  /** @param others of processes that declare the same metrics: each sample is the sum of all */
  render(others: Iterable<Samples> = []): string {
    const all = [...others];
    return this.#sorted()
      .flatMap(({ description: { name, type, help }, samples }) => [
        `# HELP ${name} ${help.replaceAll('\\', '\\\\').replaceAll('\n', '\\n')}`,
        `# TYPE ${name} ${type}`,
        ...linesOf(sumOf([new Map(samples()), ...all.flatMap((one) => one.get(name) ?? [])])),
      ])
      .map((line) => `${line}\n`)
      .join('');
  }

  #sorted(): Family[] {
    return [...this.#families.values()].sort((a, b) =>
      a.description.name < b.description.name ? -1 : 1,
    );
  }

  #add(family: Family): void {
    const { name, labels } = family.description;
    if (!NAME.test(name)) throw new Error(`metric name ${name}`);
    if (this.#families.has(name)) throw new Error(`metric ${name} is declared twice`);
    for (const label of labels) if (!LABEL.test(label)) throw new Error(`label ${label}`);
    this.#families.set(name, family);
  }
}

interface Family {
  readonly description: MetricDescription;
  readonly samples: () => [string, number][];
}

class NumberFamily implements Family {
  readonly description: MetricDescription;
  readonly #values = new Map<string, number>();
  readonly #keys = new Map<string, string>();

  constructor(description: MetricDescription) {
    this.description = description;
    if (description.labels.length === 0) this.#values.set('', 0);
  }

  set(labels: Labels<string> | undefined, value: number): void {
    this.#put(this.#keyOf(labels), value);
  }

  add(labels: Labels<string> | undefined, by: number): void {
    const key = this.#keyOf(labels);
    this.#put(key, (this.#values.get(key) ?? 0) + by);
  }

  #put(key: string, value: number): void {
    if (this.#values.has(key) || this.#values.size < MAXIMUM_SERIES) this.#values.set(key, value);
  }

  /** Found again by the labels' values: some counters count every statement. */
  #keyOf(labels: Labels<string> | undefined): string {
    const { labels: names } = this.description;
    if (names.length === 0) return '';
    let values = '';
    for (const name of names) values += `${labels?.[name]}\0`;
    const known = this.#keys.get(values);
    if (known !== undefined) return known;
    const key = seriesKey(this.description, labels);
    if (this.#keys.size < MAXIMUM_SERIES) this.#keys.set(values, key);
    return key;
  }

  readonly samples = (): [string, number][] =>
    [...this.#values].map(([key, value]) => [sampleName(this.description.name, key), value]);
}

class HistogramFamily implements Family {
  readonly description: MetricDescription;
  readonly #series = new Map<string, { counts: number[]; sum: number; count: number }>();

  constructor(description: MetricDescription) {
    this.description = description;
  }

  observe(labels: Labels<string> | undefined, seconds: number): void {
    const key = seriesKey(this.description, labels);
    const found = this.#series.get(key);
    if (found === undefined && this.#series.size >= MAXIMUM_SERIES) return;
    const series = found ?? { counts: SECONDS_BUCKETS.map(() => 0), sum: 0, count: 0 };
    this.#series.set(key, series);
    series.sum += seconds;
    series.count += 1;
    series.counts = series.counts.map((count, bucket) =>
      seconds <= (SECONDS_BUCKETS[bucket] ?? 0) ? count + 1 : count,
    );
  }

  readonly samples = (): [string, number][] => {
    const { name } = this.description;
    const below = (key: string, bound: string) =>
      sampleName(`${name}_bucket`, withBound(key, bound));
    return [...this.#series].flatMap(([key, { counts, sum, count }]): [string, number][] => [
      ...counts.map((some, bucket): [string, number] => [
        below(key, String(SECONDS_BUCKETS[bucket])),
        some,
      ]),
      [below(key, '+Inf'), count],
      [sampleName(`${name}_sum`, key), sum],
      [sampleName(`${name}_count`, key), count],
    ]);
  };
}

/** The labels as they stand between the braces. */
function seriesKey(
  { name, labels: names }: MetricDescription,
  labels: Labels<string> | undefined,
): string {
  return names
    .map((label) => {
      const value = labels?.[label];
      if (value === undefined) throw new Error(`${name} without its label ${label}`);
      return `${label}="${escaped(value)}"`;
    })
    .join(',');
}

function escaped(value: string): string {
  return value.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n');
}

function withBound(key: string, bound: string): string {
  return key === '' ? `le="${bound}"` : `${key},le="${bound}"`;
}

function sampleName(name: string, key: string): string {
  return key === '' ? name : `${name}{${key}}`;
}

function sumOf(parts: readonly ReadonlyMap<string, number>[]): ReadonlyMap<string, number> {
  const [first, ...others] = parts;
  const sum = new Map(first);
  for (const part of others) {
    for (const [name, value] of part) sum.set(name, (sum.get(name) ?? 0) + value);
  }
  return sum;
}

function linesOf(samples: ReadonlyMap<string, number>): string[] {
  return [...samples].map(([name, value]) => `${name} ${value}`);
}
