module function

go 1.26

// Only where a proxy refuses v1.3.0, which fasthttp asks for.
replace github.com/molecule-man/go-brrr => github.com/molecule-man/go-brrr v1.0.1
