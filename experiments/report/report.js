'use strict';
// What the page does. Its data lie in script elements of JSON: a summary, read at once, and pieces with pictures and traces, each read when
// one of its units is looked at. Every word of a run becomes a text node or an attribute's value, never markup.
(() => {
  const page = JSON.parse(document.getElementById('summary').textContent);
  const {runs, units} = page;
  const several = runs.length > 1;
  const by = (id) => document.getElementById(id);

  // ---- Making elements ----
  const vector = 'http://www.w3.org/2000/svg';
  const drawn = new Set(['svg', 'path', 'line', 'rect', 'text', 'title']);
  function h(tag, attributes = {}, ...children) {
    const element = drawn.has(tag) ? document.createElementNS(vector, tag) : document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (value === undefined || value === null || value === false) continue;
      if (name.startsWith('on'))
        element.addEventListener(name.slice(2), value);
      else
        element.setAttribute(name, value === true ? '' : value);
    }
    element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== ''));
    return element;
  }

  // Below the heading of a run, which is there where there are several.
  const minor = (words) => h(several ? 'h4' : 'h3', {class: 'minor'}, words);

  // ---- Words and numbers ----
  function number(value, digits = 3) {
    if (value === null || value === undefined) return '–';
    if (value === 0) return '0';
    const size = Math.abs(value);
    const words = size >= 1e5 || size < 1e-3 ? value.toExponential(digits - 1) : Number(value.toPrecision(digits)).toString();
    return words.replace(/-/g, '−');
  }
  const count = (n, one, many = one + 's') => `${n.toLocaleString('en')} ${n === 1 ? one : many}`;
  const title = (unit) => unit.name + (unit.label ? ' ' + unit.label : '');
  const link = (unit) => '#' + encodeURI(unit.name).replace(/#/g, '%23');
  const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;
  function median(values) {
    const sorted = values.filter((value) => value !== null).sort((a, b) => a - b), n = sorted.length;
    return n === 0 ? null : (sorted[(n - 1) >> 1] + sorted[n >> 1]) / 2;
  }
  // A run's settings, as evoke writes them: [table] and key = value.
  function settings(run) {
    const out = new Map();
    let table = '';
    for (const line of run.config.split('\n')) {
      const head = line.match(/^\s*\[+([^\]]+)\]+/), pair = line.match(/^\s*([\w.-]+|"[^"]*")\s*=\s*(.*)$/);
      if (head)
        table = head[1].trim();
      else if (pair)
        out.set((table ? table + '.' : '') + pair[1], pair[2]);
    }
    return out;
  }
  for (const run of runs) run.settings = settings(run);
  const kind = (run, table) => (run.settings.get(table + '.kind') || '').replace(/"/g, '');
  const quoted = (word) => (/^[\w@%+=:,.\/-]+$/.test(word) ? word : '\'' + word.replace(/'/g, '\'\\\'\'') + '\'');

  // ---- Pictures ----
  const pieces = new Map();
  // The page comes to life behind the first piece, while the others are still read: one is whole once the next has begun.
  const isThere = (unit) => unit.piece === 0 || document.readyState !== 'loading' || by('piece-' + (unit.piece + 1)) !== null;
  function piece(unit) {
    if (!pieces.has(unit.piece)) pieces.set(unit.piece, JSON.parse(by('piece-' + unit.piece).textContent));
    return pieces.get(unit.piece)[unit.number];
  }
  const small = 64;  // pixels of a picture that is shown as the pixels that it has
  function picture(data, alt, classes, run) {
    const image = h('img', {class: classes, src: 'data:image/webp;base64,' + data, alt, loading: 'lazy', decoding: 'async'});
    if (run) {
      image.setAttribute('width', run.width), image.setAttribute('height', run.height);
      if (Math.max(run.width, run.height) <= small) image.classList.add('pixels');
    } else {
      image.addEventListener('load', () => image.classList.toggle('pixels', Math.max(image.naturalWidth, image.naturalHeight) <= small));
    }
    return image;
  }
  const described = (unit, of, i) => `${title(unit)}, chain ${of.chain[i]}, activation ${number(of.activation[i])}`;
  const best = (of) => of.activation.reduce((least, value, i) => (value > of.activation[least] ? i : least), 0);

  // ---- Which units are shown ----
  units.forEach((unit, i) => (unit.number = i));
  const layers = [...new Set(units.map((unit) => unit.layer ?? ''))];
  const readers = [...new Set(runs.flatMap((run) => run.readers))];
  const shown = new Set(runs.keys());
  const first = (unit) => [...shown].map((i) => unit.runs[i]).find((of) => of);
  const share = (unit, judge) => {
    const of = first(unit), held = of && of.shares && of.shares[judge];
    return held ? held[0] / held[1] : null;
  };
  const orders = {
    'as in the run': null,
    'by name': (a, b) => a.name.localeCompare(b.name, 'en', {numeric: true}),
    'highest activation first': falling((unit) => highest(first(unit))),
    'lowest activation first': falling((unit) => -highest(first(unit))),
  };
  for (const judge of readers) {
    orders[`read best by ${judge} first`] = falling((unit) => share(unit, judge));
    orders[`read worst by ${judge} first`] = falling((unit) => (share(unit, judge) === null ? null : -share(unit, judge)));
  }
  if (units.some((unit) => unit.runs.some((of) => of && of.percentile)))
    orders['highest percentile first'] = falling((unit) => median(first(unit).percentile || []));
  function highest(of) {
    return of.activation[best(of)];
  }
  // By a number of theirs; those that have none come last.
  function falling(of) {
    const value = (unit) => (first(unit) ? of(unit) ?? -Infinity : -Infinity);
    return (a, b) => {
      const x = value(a), y = value(b);
      return x === y ? a.number - b.number : y > x ? 1 : -1;
    };
  }
  const options = (select, names) => select.append(...names.map(([value, name]) => h('option', {value}, name)));
  options(by('layer'), [['*', 'all'], ...layers.map((layer) => ['=' + layer, layer || 'no single unit'])]);
  by('layer-tool').hidden = layers.length < 2;
  options(by('order'), Object.keys(orders).map((name) => [name, name]));
  options(
      by('judged'),
      [['', 'all'], ...readers.flatMap((judge) => [['+' + judge, `some read by ${judge}`], ['-' + judge, `none read by ${judge}`]])]);
  by('judged-tool').hidden = readers.length === 0;
  by('runs-tool').hidden = !several;
  runs.forEach(
      (run, i) => by('runs-tool')
                      .append(
                          h('label', {}, h('input', {
                              type: 'checkbox',
                              checked: true,
                              onchange: (event) => {
                                event.target.checked ? shown.add(i) : shown.delete(i);
                                show();
                              }
                            }),
                            run.name)));

  function wanted() {
    const words = by('filter').value.toLowerCase().split(/\s+/).filter(Boolean), layer = by('layer').value, judged = by('judged').value;
    const out = units.filter((unit) => {
      const name = title(unit).toLowerCase();
      if (!words.every((word) => name.includes(word)) || !first(unit)) return false;
      if (layer !== '*' && layer !== '=' + (unit.layer ?? '')) return false;
      if (!judged) return true;
      const held = share(unit, judged.slice(1));
      return held !== null && (judged[0] === '+' ? held > 0 : held === 0);
    });
    const order = orders[by('order').value];
    return order ? out.sort(order) : out;
  }

  // ---- The gallery: elements are made as one comes near them ----
  const together = 48;
  let list = [], made = 0, layerShown = null, into = null;
  function show() {
    list = wanted(), made = 0, layerShown = null, into = null;
    by('gallery').replaceChildren();
    by('count').textContent = list.length === units.length ? count(units.length, 'unit') :
                                                             `${count(list.length, 'unit')} of ${units.length.toLocaleString('en')}`;
    if (several && shown.size > 0) by('gallery').append(frameOfRows());
    makeMore();
  }
  function makeMore(howMany = together) {
    const grouped = orders[by('order').value] === null || by('order').value === 'by name';
    for (const unit of list.slice(made, made + howMany)) {
      if (!isThere(unit)) break;
      ++made;
      if (several) {
        into.append(row(unit));
        continue;
      }
      // Layers have headings as long as the order keeps their units together.
      const layer = grouped && layers.length > 1 ? unit.layer ?? '' : '';
      if (layer !== layerShown) {
        layerShown = layer;
        if (grouped && layers.length > 1)
          by('gallery').append(h('h3', {}, layer || 'no single unit'));
        else if (!into)
          by('gallery').append(h('h3', {class: 'unseen'}, 'Units'));
        into = h('div', {class: 'cards'});
        by('gallery').append(into);
      }
      into.append(card(unit));
    }
    by('more').parentElement.hidden = made >= list.length;
  }
  const near = new IntersectionObserver(
      (entries) => entries.some((entry) => entry.isIntersecting) && made < list.length && grow(), {rootMargin: '1200px'});
  function grow() {
    makeMore();
    near.unobserve(by('more')), near.observe(by('more'));  // says again whether the end is near
  }
  near.observe(by('more'));
  by('more').addEventListener('click', () => makeMore());
  addEventListener('beforeprint', () => {
    makeMore(2000);
    for (const image of document.images) image.loading = 'eager';
  });

  const judged = (held) => readers.filter((judge) => held && held[judge]).map((judge) => [judge, held[judge]]);
  const readBy = (of, i) => judged(of.verdicts).filter(([, said]) => said[i] !== '-');
  const caption = (of, i) =>
      h('p', {class: 'caption judged'}, h('span', {}, `activation ${number(of.activation[i])}`),
        judged(of.shares).map(([judge, [yes, asked]]) => h('span', {}, `${judge} ${yes}/${asked}`)));
  function pictures(unit, run, most) {
    const of = unit.runs[run], data = piece(unit).runs[run].pictures, top = best(of);
    const others = [...data.keys()].filter((i) => i !== top).slice(0, most);
    return [
      picture(data[top], described(unit, of, top), 'large', runs[run]), caption(of, top),
      others.length ? h('div', {class: 'thumbs'}, others.map((i) => picture(data[i], described(unit, of, i), '', runs[run]))) : null
    ];
  }
  function realImages(unit, most) {
    const top = (piece(unit).top || []).filter((one) => one.picture).slice(0, most);
    if (top.length === 0) return null;
    return h(
        'div', {class: 'real'}, h('p', {class: 'caption'}, 'real images'),
        h('div', {class: 'thumbs'},
          top.map((one, i) => picture(one.picture, `real image ${i + 1} for ${title(unit)}, ${number(one.value)}`, ''))));
  }
  const heading = (unit) =>
      h('h4', {},
        h('a', {href: link(unit)}, h('span', {class: 'name'}, unit.name), unit.label ? h('span', {class: 'label'}, unit.label) : null));
  function card(unit) {
    const [large, said, others] = pictures(unit, runs.findIndex((_, i) => unit.runs[i]), 5);
    return h('article', {class: 'card'}, large, heading(unit), said, others, realImages(unit, 5));
  }
  function frameOfRows() {
    const chosen = [...shown].sort((a, b) => a - b);
    into = h('div', {class: 'rows'});
    into.style.setProperty('--columns', chosen.length);
    into.append(h('div', {class: 'heads', 'aria-hidden': 'true'}, h('span', {}, 'unit'), chosen.map((i) => h('span', {}, runs[i].name))));
    return h(
        'div', {}, h('h3', {class: 'unseen'}, 'Units'),
        h('div', {class: 'scroll', tabindex: '0', role: 'region', 'aria-label': 'Runs side by side'}, into));
  }
  function row(unit) {
    const chosen = [...shown].sort((a, b) => a - b);
    return h(
        'article', {class: 'row'}, h('div', {}, heading(unit), realImages(unit, 4)),
        chosen.map(
            (i) =>
                h('div', {role: 'group', 'aria-label': runs[i].name},
                  unit.runs[i] ? pictures(unit, i, 5) : h('p', {class: 'caption'}, 'not in this run'))));
  }

  // ---- One unit ----
  function interval([yes, asked, low, high]) {
    return `${yes} of ${asked} [${number(low, 2)}, ${number(high, 2)}]`;
  }
  function verdicts(of, i) {
    const said = readBy(of, i);
    return said.length === 0 ? null :
                               h('span', {class: 'verdicts'},
                                 said.map(
                                     ([judge, all]) =>
                                         h('span', {class: all[i] === '1' ? 'yes' : 'no'}, all[i] === '1' ? '✓ ' : '✗ ', judge,
                                           h('span', {class: 'unseen'}, all[i] === '1' ? ' reads the class' : ' reads another class'))));
  }
  function strip(images, name, unit) {
    const some = images || [];
    if (some.length === 0) return null;
    return [
      h('h4', {class: 'minor'}, name),
      h('ul', {class: 'exemplars'},
        some.map(
            (one, i) =>
                h('li', {},
                  h('figure', {},
                    one.picture ? picture(one.picture, `real image ${one.row} for ${title(unit)}`, '') : h('span', {}, `image ${one.row}`),
                    h('figcaption', {}, number(one.value))))))
    ];
  }

  const termNames = {
    score: 'objective: the unit’s own score',
    objective: 'objective: all of it',
    value: 'value: what was climbed, prior included',
    slope: 'slope of the objective'
  };
  // A chart of one term: a line a chain, steps from left to right.
  function chart(term, lines, steps) {
    const most = 200;  // lines that an eye can tell apart, and more
    const width = 360, height = 150, left = 46, right = 8, top = 8, bottom = 20;
    let low = Infinity, high = -Infinity;
    for (const line of lines)
      for (const value of line)
        if (value !== null) low = Math.min(low, value), high = Math.max(high, value);
    if (low > high) return null;
    const flat = low === high, span = flat ? 1 : high - low, begin = steps[0], end = steps[steps.length - 1];
    const x = (step) => left + (width - left - right) * (end > begin ? (step - begin) / (end - begin) : 0.5);
    const y = (value) => top + (height - top - bottom) * (flat ? 0.5 : (high - value) / span);
    const svg = h('svg', {
      viewBox: `0 0 ${width} ${height}`,
      role: 'img',
      'aria-label': `${termNames[term] || term} from step ${begin} to ${end}, ${count(lines.length, 'chain')}: from ${number(low)} to ${
          number(high)}, at the end ${number(mean(lines.map((line) => line[line.length - 1] ?? 0)))} on average`
    });
    svg.append(
        h('line', {class: 'axis', x1: left, x2: width - right, y1: height - bottom, y2: height - bottom}),
        h('line', {class: 'axis', x1: left, x2: left, y1: top, y2: height - bottom}));
    const words = (at, up, anchor, said) => svg.append(h('text', {x: at, y: up, 'text-anchor': anchor}, said));
    words(left - 5, y(high) + 4, 'end', number(high));
    if (!flat) words(left - 5, y(low) + 4, 'end', number(low));
    words(left, height - 5, 'start', begin), words(width - right, height - 5, 'end', `step ${end}`);
    for (const line of lines.slice(0, most)) {
      let path = '', pen = 'M';
      line.forEach((value, i) => {
        if (value === null) return void (pen = 'M');
        path += `${pen}${x(steps[i]).toFixed(1)} ${y(value).toFixed(1)}`, pen = 'L';
      });
      svg.append(h('path', {d: path, 'vector-effect': 'non-scaling-stroke'}));
    }
    const cursor = h('line', {class: 'cursor', x1: 0, x2: 0, y1: top, y2: height - bottom, visibility: 'hidden'});
    svg.append(cursor);
    const figure = h('figure', {class: 'chart'}, h('figcaption', {}, termNames[term] || term), svg);
    figure.at = (step) => {
      const there = step >= begin && step <= end;
      cursor.setAttribute('visibility', there ? 'visible' : 'hidden');
      for (const side of ['x1', 'x2']) cursor.setAttribute(side, x(there ? step : begin));
    };
    figure.choose = (chain) => svg.querySelectorAll('path').forEach((path, i) => path.classList.toggle('chosen', i === chain));
    return figure;
  }

  let playing = 0;
  function stop() {
    clearInterval(playing), playing = 0;
  }

  function runOfUnit(unit, i) {
    const run = runs[i], of = unit.runs[i], data = piece(unit).runs[i], out = h('div', {});
    if (several) out.append(h('h3', {}, run.name));
    const shares = judged(of.shares), percentile = of.percentile ? median(of.percentile) : null;
    if (shares.length || percentile !== null)
      out.append(
          h('ul', {class: 'shares'}, shares.map(([judge, said]) => h('li', {}, h('b', {}, judge), ' reads the class in ', interval(said))),
            percentile === null ? null : h('li', {}, h('b', {}, 'percentile'), ` among real images ${number(percentile)} (median)`)));

    const frames = [], charts = Object.entries(data.traces || {}).map(([term, lines]) => chart(term, lines, run.steps)).filter(Boolean);
    const moments = run.moments, strips = data.strips || [], list = h('ul', {class: 'pictures'});
    const add = (from, to) => list.append(...[...of.chain.keys()].slice(from, to).map((k) => {
      const frame = h('div', {class: 'frame'}, picture(data.pictures[k], described(unit, of, k), 'large', run));
      if (strips[k]) {
        const all = picture(strips[k], '', 'strip', run);
        all.removeAttribute('width'), all.removeAttribute('height');
        all.style.width = moments.length * 100 + '%';
        frame.append(all), frames.push([frame, all]);
      }
      const file = run.folder !== undefined && of.files && of.files[k];
      const choose = (on) => () => charts.forEach((one) => one.choose(on ? k : -1));
      return h(
          'li', {onmouseenter: choose(true), onmouseleave: choose(false), onfocusin: choose(true), onfocusout: choose(false)},
          h('figure', {}, frame,
            h('figcaption', {}, `chain ${of.chain[k]} · ${number(of.activation[k])}`,
              of.percentile ? ` · percentile ${number(of.percentile[k])}` : '',
              file ?
                  [
                    ' · ',
                    h('a', {href: encodeURI('./' + run.folder + 'images/' + file).replace(/#/g, '%23').replace(/\?/g, '%3F')}, 'PNG',
                      h('span', {class: 'unseen'}, ` of chain ${of.chain[k]}`))
                  ] :
                  null,
              of.status && of.status[k] ? h('span', {class: 'no'}, ' · ' + of.status[k]) : null, verdicts(of, k))));
    }));
    const many = 60;
    add(0, many);
    out.append(list);
    if (of.chain.length > many) {
      const more =
          h('button', {
            type: 'button',
            onclick: () => {
              add(list.children.length, list.children.length + many), more.hidden = list.children.length >= of.chain.length;
            }
          },
            `Show more of ${count(of.chain.length, 'chain')}`);
      out.append(more);
    }

    if (frames.length) {
      const said = h('output', {}), last = moments.length - 1,
            words = (k) => (moments[k] === 'end' ? 'at the end' : `after step ${moments[k]}`);
      const slider = h('input', {
        type: 'range',
        min: 0,
        max: last,
        step: 1,
        value: last,
        'aria-label': 'Step of the trajectory' + (several ? ` of ${run.name}` : '')
      });
      const move = () => {
        const k = Number(slider.value);
        said.textContent = words(k);
        slider.setAttribute('aria-valuetext', words(k));
        for (const [frame, all] of frames) {
          frame.classList.toggle('moving', k < last);
          all.style.transform = `translateX(${(-100 * k) / moments.length}%)`;
        }
        for (const one of charts) one.at(k < last ? moments[k] : NaN);
      };
      slider.addEventListener('input', () => {
        stop(), move();
      });
      const play =
          h('button', {
            type: 'button',
            onclick: () => {
              if (playing) return stop();
              if (Number(slider.value) === last) slider.value = 0;
              move();
              playing = setInterval(() => {
                slider.value = Number(slider.value) + 1, move();
                if (Number(slider.value) === last) stop();
              }, 180);
            }
          },
            'Play');
      move();
      list.after(h('div', {class: 'time'}, h('span', {class: 'soft'}, 'Trajectory'), play, slider, said));
    }
    if (charts.length) out.append(minor('On the way'), h('div', {class: 'charts'}, charts));
    return out;
  }

  function showUnit(unit) {
    stop();
    const neighbours = list.includes(unit) ? list : units, at = neighbours.indexOf(unit), before = neighbours[at - 1],
          after = neighbours[at + 1];
    const held = piece(unit), section = by('unit');
    section.replaceChildren(
        h('nav', {class: 'crumbs', 'aria-label': 'Units'}, h('a', {href: '#/pictures'}, '↑ All units'), h('span', {class: 'spring'}),
          before ? h('a', {href: link(before), rel: 'prev'}, '← ' + before.name) : null,
          after ? h('a', {href: link(after), rel: 'next'}, after.name + ' →') : null),
        h('h2', {id: 'unit-head', tabindex: '-1'}, h('span', {class: 'name'}, unit.name), unit.label ? ' ' + unit.label : ''));
    for (const i of runs.keys())
      if (unit.runs[i] && shown.has(i)) section.append(runOfUnit(unit, i));
    const real = [strip(held.top, 'Real images that excite it most', unit), strip(held.bottom, 'Real images that excite it least', unit)];
    if (real.some(Boolean))
      section.append(
          h('h3', {}, 'Real images'), h('p', {class: 'soft'}, `Of ${page.exemplars.data}, with the unit’s value of each.`),
          ...real.flat().filter(Boolean));
  }

  // ---- Figures ----
  const columns = [
    ['pictures', 'pictures', '', 0],
    ['witness.top1', 'witness', 'share that a network which took no part reads as the unit’s class', 3],
    ['witness.top5', 'witness top 5', 'share whose class is among that network’s first five', 3],
    ['witness.probability', 'witness p', 'its mean probability of the class', 2],
    ['path', 'path', 'share that lies where photographs lie at every depth that is used, by statistics of channels', 3],
    ['path_of_means', 'path of means', 'the same by the channels’ means alone, which is stricter', 3],
    ['target_path', 'target path', 'share that goes through the network itself as the real images do that excite the unit', 3],
    ['alike', 'alike', 'share that the oracle reads as the target does, whatever was wanted', 3],
    ['shape_rmse', 'shape rmse', 'median distance to the nearest image that the dataset could contain', 3],
    ['oracle_spread', 'spread', 'how far the oracles’ shares lie apart', 3],
    ['percentile', 'percentile', 'where the unit’s activation falls among those of real images, median', 1],
    ['diversity', 'diversity', 'effective number of different pictures of a unit that the judges accept', 2],
    ['variety', 'variety', 'effective number of different pictures in all', 1],
    ['vendi', 'vendi', 'effective number of different pictures of a unit that pass', 2],
    ['spectrum', 'spectrum', 'slope of the power spectrum', 2],
    ['frechet', 'frechet', 'Fréchet distance to photographs in the witness’s features', 1],
    ['precision', 'precision', 'share of the pictures inside the manifold of photographs', 2],
    ['recall', 'recall', 'share of photographs inside the manifold of the pictures', 2],
    ['images', 'images seen', 'pictures that the classifier looked at', 0],
  ];
  const meanings = {
    agreement_target: 'share that the network which was climbed reads as the unit’s class',
    agreement_render: 'share that the nearest image which the dataset could contain, found without a network, belongs to the class'
  };
  const shares = new Set(['witness.top1', 'witness.top5', 'alike', 'path', 'path_of_means', 'target_path', 'precision', 'recall']);
  const value = (line, key) => key.split('.').reduce((held, part) => (held === null || held === undefined ? held : held[part]), line);
  const point = (held) => (held !== null && typeof held === 'object' ? held.value : held);
  function cell(held, digits, isShare) {
    const at = point(held);
    if (at === null || at === undefined) return h('td', {class: 'number'}, '–');
    const fixed = (x) => (x === null ? '–' : digits ? x.toFixed(digits) : x.toLocaleString('en')).replace('-', '−');
    const bounds = typeof held === 'object' && held.low !== null && held.low !== undefined;
    const bar = isShare && bounds ?
        h('svg', {viewBox: '0 0 84 8', 'aria-hidden': 'true'}, h('rect', {class: 'ground', width: 84, height: 8, rx: 2}),
          h('rect', {class: 'reach', x: 84 * held.low, width: Math.max(1, 84 * (held.high - held.low)), height: 8, rx: 2}),
          h('rect', {class: 'point', x: Math.min(82, Math.max(0, 84 * at - 1)), width: 2, height: 8})) :
        null;
    return h(
        'td', {class: 'number'}, fixed(at), bounds ? h('span', {class: 'interval'}, ` [${fixed(held.low)}, ${fixed(held.high)}]`) : null,
        bar);
  }
  // A table that is as wide as it must be, in a part of the page that moves by itself.
  function wide(label, heads, lines) {
    const head = heads.length ? h('thead', {}, h('tr', {}, heads.map((name) => h('th', {scope: 'col'}, name)))) : null;
    const table = h('table', {}, h('caption', {class: 'unseen'}, label), head, h('tbody', {}, lines));
    return h('div', {class: 'scroll', tabindex: '0', role: 'region', 'aria-label': label}, table);
  }
  const line = (name, cells, classes) => h('tr', {class: classes}, h('th', {scope: 'row'}, name), cells);
  const folded = (name, ...inside) => h('details', {}, h('summary', {}, name), inside);

  function nobodyJudged() {
    const command = `evoke judge ${quoted(runs[0].name)}`;
    return [
      h('p', {}, 'Nobody has judged these pictures yet. A network’s certainty says little about a picture: ask those who took no part.'),
      h('p', {}, h('code', {}, command + ' --data shapes.h5'), ' or, for photographs, ',
        h('code', {}, command + ' --witness other.pt2 --photographs photos.h5'), '; this page is written anew then.')
    ];
  }
  // The columns that somebody found something for; every agreement of the judges behind the first.
  function columnsFound() {
    const rank = (key) => ['agreement_target', 'agreement_oracle', null, 'agreement_render'].indexOf(key);
    const place = (key) => (rank(key) < 0 ? 2 : rank(key));
    const keys = [...new Set(page.figures.flatMap((figures) => Object.keys(figures).filter((key) => key.startsWith('agreement_'))))];
    const agreements =
        keys.sort((a, b) => place(a) - place(b) || (a < b ? -1 : 1))
            .map((key) => [key, key.slice(10), meanings[key] || 'share that a network which took no part reads as the unit’s class', 3]);
    const found = (key) => page.figures.some((figures) => (point(value(figures, key)) ?? null) !== null);
    return [columns[0], ...agreements, ...columns.slice(1)].filter(([key]) => found(key));
  }
  function showFigures() {
    const section = by('figures');
    if (page.figures.length === 0) return section.append(...nobodyJudged());
    const all = columnsFound(), isShare = (key) => shares.has(key) || key.startsWith('agreement_');
    const cells = (figures) => all.map(([key, , , digits]) => cell(value(figures, key), digits, isShare(key)));
    section.append(wide(
        'Figures of the judges, with 95 % intervals', ['pictures of', ...all.map(([, name]) => name)],
        page.figures.map((figures) => line(figures.name, cells(figures), figures.run === null ? 'anchor' : undefined))));

    const meant = all.filter(([, , said]) => said).flatMap(([, name, said]) => [h('dt', {}, name), h('dd', {}, said)]);
    section.append(folded(
        'What the columns mean', h('dl', {class: 'meanings'}, meant),
        h('p', {class: 'soft'},
          'In brackets: 95 % intervals, Wilson’s for shares and a bootstrap’s for the others. ' +
              'Rows in grey are anchors, which mark the ends of the scale.')));
    for (const {run, units: off} of page.off_path) {
      if (!off.length) continue;
      const links = off.flatMap((name, i) => [i ? ', ' : '', h('a', {href: link({name})}, name)]);
      section.append(h('p', {}, `Off the path of the real images that excite the unit in ${runs[run].name}: `, ...links, '.'));
    }
    const missing = runs.filter((run) => !run.judges).map((run) => run.name);
    if (missing.length) section.append(h('p', {class: 'soft'}, `Not judged yet: ${missing.join(', ')}.`));
    // What marks the ends of the scale at every depth, and whether the depth is used.
    const depthTable = (caption, depths, shares) => wide(
        caption, ['depth', 'used', ...shares.map(([head]) => head)],
        depths.map(
            (depth) =>
                line(depth.depth, [h('td', {}, depth.used ? 'yes' : 'no'), ...shares.map(([, key]) => cell(depth[key], 2, false))])));
    if (page.depths.length)
      section.append(folded('The depths of the witness', depthTable('Share inside at each depth of the witness', page.depths, [
                              ['photographs left out', 'photographs_left_out'], ['phases scrambled', 'phase_scrambled'], ['noise', 'noise'],
                              ['pixel ascent', 'pixel_ascent']
                            ])));
    if (page.target_depths.length)
      section.append(folded(
          'The path through the network itself',
          h('p', {class: 'soft'},
            'A picture is on its unit’s path where, at more than half of the depths that are used, it lies among the real images that ' +
                'excite the unit most. These are the shares of real images left out that excite it as much, of others, and of what is none.'),
          depthTable('Share on the unit’s path at each depth of the network', page.target_depths, [
            ['left out', 'left_out'], ['other images', 'other_real_images'], ['phases scrambled', 'phase_scrambled'],
            ['random pixels', 'noise']
          ])));
    const judges = [...new Set(runs.map((run) => run.judges).filter(Boolean))];
    section.append(
        folded('Who judged', judges.map((said) => h('ul', {}, said.split('; ').map((judge) => h('li', {class: 'hash'}, judge))))));
  }

  // ---- Settings ----
  function copied(words, label) {
    const button =
        h('button', {
          type: 'button',
          onclick: async () => {
            try {
              await navigator.clipboard.writeText(words);
            } catch {  // pages from a file may not write there; what is selected can be copied by hand
              const range = document.createRange();
              range.selectNodeContents(text), getSelection().removeAllRanges(), getSelection().addRange(range);
              document.execCommand('copy');
            }
            button.textContent = 'Copied';
            setTimeout(() => (button.textContent = 'Copy'), 1500);
          },
          'aria-label': `Copy ${label}`
        },
          'Copy');
    const text = h('pre', {tabindex: '0', 'aria-label': label}, words);
    return h('div', {class: 'copy'}, text, button);
  }
  // What the runs were told differently.
  function differences() {
    const keys = [...new Set(runs.flatMap((run) => [...run.settings.keys()]))];
    const unlike = keys.filter((key) => new Set(runs.map((run) => run.settings.get(key))).size > 1);
    if (unlike.length === 0) return h('p', {}, 'Their settings are the same.');
    const told = (run, key) => h('td', {class: 'hash'}, run.settings.has(key) ? h('code', {}, run.settings.get(key)) : '–');
    return wide(
        'Settings that differ', ['setting', ...runs.map((run) => run.name)],
        unlike.map((key) => line(h('code', {}, key), runs.map((run) => told(run, key)))));
  }
  function settingsOf(run) {
    const command = `evoke sample ${quoted(run.name + '/config.toml')} --out ${quoted(run.name + '-again')}`;
    const facts = run.facts.map(([name, held]) => line(name, h('td', {}, typeof held === 'object' ? JSON.stringify(held) : String(held))));
    const inputs = run.inputs.map(
        ([file, hash]) => line(
            'input', h('td', {class: 'hash'}, h('code', {}, file), h('br'), h('span', {class: 'soft'}, 'SHA-256 ', h('code', {}, hash)))));
    return [
      minor('The command that repeats it'), copied(command, `the command of ${run.name}`), minor('config.toml'),
      copied(run.config.trimEnd(), `config.toml of ${run.name}`), wide(`What ${run.name} was made with`, [], [...facts, ...inputs])
    ];
  }
  function showSettings() {
    if (several) by('settings').append(h('h3', {}, 'Where the runs differ'), differences());
    for (const run of runs) by('settings').append(several ? folded(run.name, settingsOf(run)) : h('div', {}, settingsOf(run)));
  }

  // ---- Where one is ----
  const whole = document.title;
  let scrolled = 0, where = null;
  function go() {
    if (location.hash === where) return;
    const raw = location.hash.slice(1);
    let name = raw;
    try {
      name = decodeURIComponent(raw);
    } catch { /* taken as it stands */
    }
    const unit = units.find((one) => one.name === name) || units.find((one) => one.name === raw), away = by('pictures').hidden;
    if (unit && !isThere(unit)) return;  // asked again once all is read
    where = location.hash;
    if (unit && !away) scrolled = scrollY;
    for (const id of ['pictures', 'figures', 'settings']) by(id).hidden = Boolean(unit);
    by('unit').hidden = !unit;
    document.title = unit ? `${title(unit)} – ${whole}` : whole;
    for (const a of document.querySelectorAll('header nav a')) a.setAttribute('aria-current', String(!unit && a.hash === where));
    if (unit) {
      showUnit(unit);
      scrollTo(0, 0);
      by('unit-head').focus({preventScroll: true});
      return;
    }
    stop(), by('unit').replaceChildren();
    if (name && !name.startsWith('/'))
      by('missing').textContent = `This report has no unit ${name}.`;
    else
      by('missing').textContent = '';
    const part = by(name.slice(1));
    if (away && name === '/pictures')
      scrollTo(0, scrolled);
    else if (part && name.startsWith('/'))
      part.scrollIntoView(), (by(part.id + '-head') || part).focus({preventScroll: true});
  }
  addEventListener('hashchange', go);
  addEventListener('keydown', (event) => {
    const typing = event.target.closest && event.target.closest('input, select, textarea, [role=region]');
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === 'Escape' && !by('unit').hidden) return void (location.hash = '#/pictures');
    if (typing) return;
    const rel = {ArrowLeft: 'prev', ArrowRight: 'next'}[event.key], neighbour = rel && document.querySelector(`#unit a[rel=${rel}]`);
    if (neighbour) location.hash = neighbour.getAttribute('href'), go();  // at once: the next key goes on from here
    if (event.key === '/' && by('unit').hidden) event.preventDefault(), by('filter').focus();
  });

  // ---- Begin ----
  const all = runs.reduce((sum, run) => sum + run.rows, 0), layersNamed = layers.filter(Boolean);
  const method = (run) => ['sampler', 'generator', 'prior', 'objective'].map((table) => kind(run, table)).filter(Boolean).join(' · ');
  by('what').textContent = [
    several ? count(runs.length, 'run') : method(runs[0]),
    `${count(units.length, 'unit')}${layersNamed.length === 1 ? ' of ' + layersNamed[0] : ''}`, count(all, 'picture')
  ].filter(Boolean).join(' · ');
  for (const run of runs)
    if (run.unfinished)
      by('notes').append(
          h('p', {class: 'note'},
            `${run.name} is not finished (${run.unfinished}): these are the ${
                count(run.rows, 'picture')} that are there so far. The same command goes on from here.`));
  for (const said of page.notes) by('notes').append(h('p', {class: 'note'}, said));
  by('notes').append(h('p', {class: 'note', id: 'missing', role: 'status'}));
  by('tools').addEventListener('submit', (event) => event.preventDefault());
  for (const id of ['filter', 'layer', 'judged', 'order']) by(id).addEventListener('input', show);
  by('size').addEventListener('input', () => document.documentElement.style.setProperty('--picture', by('size').value + 'px'));
  show(), showFigures(), showSettings(), go();
  addEventListener('DOMContentLoaded', () => {
    grow(), go();
  });
})();
