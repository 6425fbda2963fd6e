{{/* Which worker group runs which deployment, and how many pods that can come to. */}}

{{/* The deployments of one group, as a list under `all`: {{ include "clinserve.deploymentsOf" (list . $group) | fromYaml }}
     On GPUs by their type; without one there is only one GPU group to choose (checked). On CPUs: the group without GPUs. */}}
{{- define "clinserve.deploymentsOf" -}}
{{- $root := index . 0 -}}
{{- $group := index . 1 -}}
{{- $all := list -}}
{{- range $root.Values.deployments -}}
{{- if include "clinserve.hasReplicas" . -}}
{{- $onGpu := and (eq .engine.kind "vllm") (ne (dig "engine" "device" "gpu" .) "cpu") -}}
{{- $type := dig "engine" "accelerator_type" "" . | default "" -}}
{{- if and $onGpu $group.gpus (or (not $type) (eq $type ($group.acceleratorType | default ""))) -}}{{- $all = append $all . -}}{{- end -}}
{{- if and (not $onGpu) (not $group.gpus) -}}{{- $all = append $all . -}}{{- end -}}
{{- end -}}
{{- end -}}
{{- dict "all" $all | toYaml -}}
{{- end -}}

{{/* Pods at least: all GPUs that are always wanted, packed. Of CPUs likewise. */}}
{{- define "clinserve.minPods" -}}
{{- $group := index . 1 -}}
{{- $wanted := 0.0 -}}
{{- range (include "clinserve.deploymentsOf" . | fromYaml).all -}}
{{- $replicas := .replicas | default 1 -}}
{{- if .scaling -}}{{- $replicas = dig "scaling" "min" 1 . -}}{{- end -}}
{{- $wanted = addf $wanted (mulf $replicas (include "clinserve.sizeOf" . | float64)) -}}
{{- end -}}
{{- divf $wanted ($group.gpus | default $group.cpu) | ceil | int -}}
{{- end -}}

{{/* Pods at most: each deployment on pods of its own, so that none waits for a hole of the right size. */}}
{{- define "clinserve.maxPods" -}}
{{- $group := index . 1 -}}
{{- $pods := 0 -}}
{{- range (include "clinserve.deploymentsOf" . | fromYaml).all -}}
{{- $replicas := .replicas | default 1 -}}
{{- if .scaling -}}{{- $replicas = dig "scaling" "max" 1 . -}}{{- end -}}
{{- $fit := divf ($group.gpus | default $group.cpu) (include "clinserve.sizeOf" . | float64) | floor | max 1 -}}
{{- $pods = add $pods (divf $replicas $fit | ceil) -}}
{{- end -}}
{{- $pods -}}
{{- end -}}

{{/* GPUs of one replica, or its CPUs. */}}
{{- define "clinserve.sizeOf" -}}
{{- if eq .engine.kind "echo" -}}
{{- dig "engine" "num_cpus" 0.1 . -}}
{{- else if eq (dig "engine" "device" "gpu" .) "cpu" -}}
{{- dig "engine" "num_cpus" 1.0 . -}}
{{- else -}}
{{- dig "engine" "tensor_parallel_size" 1 . -}}
{{- end -}}
{{- end -}}
