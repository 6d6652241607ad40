// @ts-check
/**
 * What classes of others show of their values: pictures as pictures, text as text, HTML locked up.
 *
 * @typedef {import("./types.js").Rich} Rich
 * @typedef {{ink: string, paper: string, rule: string, shade: string}} Paper
 */
import { make, typed } from "./elements.js";

const PICTURE = /^data:image\/(?:png|jpeg|svg\+xml);base64,[A-Za-z0-9+/]+={0,2}$/;
const POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; form-action 'none'; base-uri 'none'";
const LOWEST = 48; // px
const HIGHEST = 320;

/** What would load, run, go elsewhere, or change the rest; nothing of it would in the frame either. */
const REFUSED =
  "script, iframe, frame, frameset, object, embed, applet, link, meta, base, portal, noscript, template, " +
  "set, animate, animateMotion, animateTransform";

/** White, for what has colours of its own: they were chosen for that. @type {Paper} */
const WHITE = { ink: "#14171a", paper: "#ffffff", rule: "#d3d7dd", shade: "#f3f4f6" };

/** Whether some HTML has colours of its own. @param {string} html */
export const isColoured = (html) => /(?:color|background|fill|stroke)["']?\s*[:=]/i.test(html);

/**
 * A document for a frame in which no script runs: it asks nothing of the network, and goes nowhere.
 *
 * The frame's sandbox and its policy keep that; here, what they would stop is taken out besides.
 *
 * @param {string} html
 * @param {Paper} paper
 * @returns {Document}
 */
export function locked(html, paper) {
  const inert = new DOMParser().parseFromString(html, "text/html");
  for (const refused of inert.querySelectorAll(REFUSED)) refused.remove();
  for (const element of inert.querySelectorAll("*")) {
    for (const name of element.getAttributeNames()) {
      const value = element.getAttribute(name) ?? "";
      const goes = /^(?:xlink:)?href$/.test(name) && !value.startsWith("#");
      const loads = name === "src" && !/^data:image\//i.test(value);
      if (goes || loads || /^on|^(?:action|formaction|ping|target|srcset|srcdoc|background|autofocus)$/.test(name)) {
        element.removeAttribute(name);
      }
    }
  }
  for (const style of inert.querySelectorAll("style")) style.textContent = askingNothing(style.textContent ?? "");
  for (const styled of inert.querySelectorAll("[style]")) {
    styled.setAttribute("style", askingNothing(styled.getAttribute("style") ?? ""));
  }
  const policy = inert.createElement("meta");
  policy.setAttribute("http-equiv", "Content-Security-Policy");
  policy.setAttribute("content", POLICY);
  const charset = inert.createElement("meta");
  charset.setAttribute("charset", "utf-8");
  const style = inert.createElement("style");
  style.textContent =
    `:root { color-scheme: ${isDark(paper.paper) ? "dark" : "light"}; }` +
    `html { background: ${paper.paper}; }` +
    `body { margin: 8px; color: ${paper.ink}; font: 13px/1.45 system-ui, sans-serif; overflow-wrap: break-word; }` +
    "table { border-collapse: collapse; border: 0; font-size: 12px; font-variant-numeric: tabular-nums; }" +
    `th, td { padding: 3px 8px; border: 0; border-bottom: 1px solid ${paper.rule}; text-align: right; }` +
    `thead th { border-bottom: 2px solid ${paper.rule}; vertical-align: bottom; }` +
    `tbody tr:nth-child(odd) { background: ${paper.shade}; }` +
    "p { margin: 6px 0; } img, svg { max-width: 100%; height: auto; } a { color: inherit; }";
  inert.head.prepend(policy, charset, style);
  return inert;
}

/** A style without what it would load; the policy refuses what is written so that this does not find it. @param {string} css */
const askingNothing = (css) =>
  css.replace(/@import[^;]*;?/gi, "").replace(/url\(\s*(?!["']?\s*(?:data:|#))[^)]*\)?/gi, "none");

/** Whether a colour, as the browser works it out, is dark. @param {string} colour */
export function isDark(colour) {
  const hex = /^#(..)(..)(..)$/.exec(colour)?.slice(1).map((part) => parseInt(part, 16));
  const [r, g, b] = hex ?? (/^rgb/.test(colour) ? (colour.match(/[\d.]+/g) ?? []).map(Number) : [255, 255, 255]);
  return 0.3 * r + 0.59 * g + 0.11 * b < 128;
}

/**
 * How high a document may stand: it cannot be asked from outside, so its rows are counted.
 *
 * @param {Document} inert
 * @returns {number} px
 */
export function heightOf(inert) {
  let height = 26;
  const rows = inert.querySelectorAll("tr").length;
  height += rows * 25;
  for (const picture of inert.querySelectorAll("img, svg, canvas")) {
    height += Number.parseFloat(picture.getAttribute("height") ?? "") || 160;
  }
  const blocks = inert.querySelectorAll("p, li, h1, h2, h3, h4, h5, h6, pre, br, dt, dd, summary, hr").length;
  const cells = [...inert.querySelectorAll("table")].reduce((sum, table) => sum + (table.textContent?.length ?? 0), 0);
  const loose = Math.max(0, (inert.body.textContent?.length ?? 0) - cells);
  height += Math.max(blocks, Math.ceil(loose / 60)) * 21;
  return Math.min(HIGHEST, Math.max(LOWEST, height));
}

/** The colours of a place in the page. @param {Element} place @returns {Paper} */
function paperOf(place) {
  const { color, backgroundColor } = getComputedStyle(place);
  const ink = color || "CanvasText";
  const isPainted = backgroundColor && backgroundColor !== "transparent" && backgroundColor !== "rgba(0, 0, 0, 0)";
  const mixed = (/** @type {number} */ part) => `color-mix(in srgb, currentcolor ${part}%, transparent)`;
  return { ink, paper: isPainted ? backgroundColor : "Canvas", rule: mixed(22), shade: mixed(6) };
}

/** @param {string} html @param {string} called @param {Element} place @returns {HTMLElement} */
function lockedFrame(html, called, place) {
  const inert = locked(html, isColoured(html) ? WHITE : paperOf(place));
  const frame = typed(make("iframe", "tq-foreign"));
  frame.setAttribute("sandbox", ""); // before there is anything in it
  frame.setAttribute("referrerpolicy", "no-referrer");
  frame.title = called;
  frame.style.height = `${heightOf(inert)}px`;
  // eslint-disable-next-line no-restricted-properties -- read, not written: text for a frame without scripts
  frame.srcdoc = `<!doctype html>${inert.documentElement.outerHTML}`;
  return frame;
}

/**
 * Something that a class shows, with a sentence about it if there is one.
 *
 * @param {Rich} rich
 * @param {string} called for who does not see it: "Result", "Displayed"
 * @param {Element} place in the page; a table has its colours
 * @returns {HTMLElement[]}
 */
export function previewed(rich, called, place) {
  const note = rich.note ? [make("div", "tq-type", rich.note)] : [];
  if (rich.kind === "image" && PICTURE.test(rich.data)) {
    const picture = make("img", "tq-photo");
    picture.alt = `${called} as a picture`;
    picture.src = rich.data;
    const holder = make("div", "tq-pictured", picture);
    picture.addEventListener("error", () => holder.replaceChildren("This picture cannot be shown."));
    return [holder, ...note];
  }
  if (rich.kind === "html") return [lockedFrame(rich.data, `${called} as ${rich.called}`, place), ...note];
  if (rich.kind !== "text") return note;
  const text = typed(make("pre", "tq-pre", rich.data));
  text.tabIndex = 0;
  text.setAttribute("aria-label", `${called} as ${rich.called}`);
  return [make("div", "tq-type", rich.called), text, ...note];
}

/**
 * Call something when the theme of the page changes; returns what ends that.
 *
 * @param {() => void} does
 * @returns {() => void}
 */
export function onTheme(does) {
  const observer = new MutationObserver(does);
  const attributeFilter = ["class", "data-theme", "data-jp-theme-name", "data-jp-theme-light", "data-vscode-theme-kind"];
  for (const root of [document.documentElement, document.body]) observer.observe(root, { attributes: true, attributeFilter });
  const dark = window.matchMedia?.("(prefers-color-scheme: dark)");
  dark?.addEventListener("change", does);
  return () => {
    observer.disconnect();
    dark?.removeEventListener("change", does);
  };
}
