package dashboard

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"html/template"
	"io/fs"
	"net/http"
	"path"
	"strings"
	"time"

	"github.com/gatehound/gatehound/gateway/dashboard/chart"
)

// parseTemplates returns the templates by the names of their files. Each defines
// "main", which the layout surrounds.
func parseTemplates() (map[string]*template.Template, error) {
	functions := template.FuncMap{"asset": assetPath, "date": date, "cpu": cpu, "size": size, "yaml": yamlText, "join": strings.Join, "dict": dict}
	common, err := template.New("").Funcs(functions).ParseFS(files, "templates/layout.html")
	if err != nil {
		return nil, err
	}
	names, err := fs.Glob(files, "templates/*.html")
	if err != nil {
		return nil, err
	}
	templates := map[string]*template.Template{}
	for _, name := range names {
		if path.Base(name) == "layout.html" {
			continue
		}
		t, err := common.Clone()
		if err == nil {
			t, err = t.ParseFS(files, name)
		}
		if err != nil {
			return nil, err
		}
		templates[strings.TrimSuffix(path.Base(name), ".html")] = t
	}
	return templates, nil
}

// dict gives a template more than one value: names and values in turn.
func dict(pairs ...any) map[string]any {
	values := map[string]any{}
	for i := 0; i+1 < len(pairs); i += 2 {
		values[fmt.Sprint(pairs[i])] = pairs[i+1]
	}
	return values
}

// date is for people; the time element beside it has the exact one.
func date(t time.Time) string {
	if t.IsZero() {
		return "–"
	}
	return t.UTC().Format("2 January 2006, 15:04") + " UTC"
}

// cpu is a share of a processor, of its thousandths.
func cpu(thousandths float64) string { return chart.Percent(thousandths, 1000) }

// size is a number of bytes, with three digits at most.
func size(bytes float64) string {
	units := []string{"bytes", "KiB", "MiB", "GiB"}
	i := 0
	for ; i < len(units)-1 && bytes >= 999.5; i++ {
		bytes /= 1024
	}
	return chart.Number(bytes) + " " + units[i]
}

// assetPath is an asset's path, with a query that changes with it, so that
// browsers may keep it.
func assetPath(name string) (string, error) {
	content, err := files.ReadFile("assets/" + name)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(content)
	return fmt.Sprintf("/ui/assets/%s?v=%s", name, hex.EncodeToString(sum[:6])), nil
}

var assetTypes = map[string]string{".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}

// asset serves the style sheet and the script.
func (v *visit) asset() error {
	name := v.r.PathValue("name")
	content, err := files.ReadFile("assets/" + name)
	kind, known := assetTypes[path.Ext(name)]
	if err != nil || !known {
		return &refusal{http.StatusNotFound, "There is no such file."}
	}
	v.w.Header().Set("Content-Type", kind)
	v.w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
	_, err = v.w.Write(content)
	return err
}

// yamlText is s as a YAML scalar in double quotes.
func yamlText(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}
